"""One subcommand a file: what is done once, and said on the terminal."""
