"""One loop per question, and what its methods share. A loop knows no method."""
