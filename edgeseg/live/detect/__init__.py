"""What can be wrong with a picture or its age: one detector a file, each a small object that is asked per frame."""
