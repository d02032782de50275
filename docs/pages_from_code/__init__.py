"""Generated parts of the documentation. Rule: a number or a list that the code has is not written again."""
