"""One subcommand a file, beside what several share."""
