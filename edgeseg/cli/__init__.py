"""The command line. `main.py` finds the commands; each `cmd_NAME.py` is one command, click alone at its top."""
