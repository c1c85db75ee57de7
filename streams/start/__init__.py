"""Setting up: questions, what each is checked by, the file of settings, and the steps after it."""
