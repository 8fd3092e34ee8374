"""What nodes say of themselves, gathered for clients, and streamed as it changes."""
