"""The result of a run: its columns, its files, and the folder that keeps them whole."""
