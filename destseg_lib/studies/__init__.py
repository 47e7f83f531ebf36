"""Many runs compared: studies, the engines that run them, intervals and reports."""
