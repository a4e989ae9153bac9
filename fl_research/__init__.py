"""Private federated learning for customer service, on TensorFlow Federated."""
