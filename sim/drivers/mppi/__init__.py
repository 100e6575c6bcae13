"""Model-predictive path integral control: the car's model, what plans cost, the driver."""
