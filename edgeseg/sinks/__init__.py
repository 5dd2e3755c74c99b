"""Results out: one file a kind of sink, all behind the `Sink` protocol of core.types.

    window   an OpenCV window, on the main thread        overlay  what window, video and web page draw
    video    an overlay video, one file a camera         display  whether there is a display at all
    masks    palette PNGs at camera size                 null     nothing, for benchmarks

Import a sink from its own file; this door imports nothing.
"""
