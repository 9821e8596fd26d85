"""v1's ``azureml.train``."""
