"""The power contract: who may draw how many watts of one supply."""
