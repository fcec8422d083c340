"""What paints a Drawing in the browser."""
