"""Run the command line: `python -m edgeseg`."""

from edgeseg.cli.main import main

if __name__ == "__main__":
    main()
