"""`tideline deliver`: changes of audiences, from Kafka to the systems that contact people."""
