"""The hardware of one device. It knows nothing of the agent."""
