"""The blocking step over a transport: submit, wait, deliver, and leave nothing behind."""
