"""The bottom room: errors, time, types, configuration, metrics. It imports no other room."""
