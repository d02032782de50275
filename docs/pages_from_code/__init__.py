"""What the pages say of the code. Rule: a number or a list that the code has is written nowhere else."""
