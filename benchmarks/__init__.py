"""What a run costs: this engine and its competitors on the same flows. See README.md beside this file."""
