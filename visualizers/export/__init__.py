"""What paints a Drawing into files."""
