"""The Gradio page: panels, controls, what a click does."""
