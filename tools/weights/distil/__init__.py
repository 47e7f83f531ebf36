"""How the built-in teacher was made: pictures to learn from, and the learning."""
