"""How clients are run: simulated, as replicas, deployed."""
