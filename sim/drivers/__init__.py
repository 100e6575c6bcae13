"""Scripted drivers: they command the cars that no agent drives.

Each has a module with one class; its settings are in `sim.config.drivers`, and
`sim.drivers.factory` builds it.

================== ============================================================================
kind               what it does
================== ============================================================================
secondary_vicon    holds its speed along a lane, turns away from a near car
pure_pursuit       follows the centre line or a racing line, steering for a point ahead
stanley            follows the centre line or a racing line with its front axle
mppi               races by plans that a model of the car tries out
follow_the_gap     steers for the deepest gap of its scan
gap_preview        steers for the heading whose path ahead is the freest
blocker            drives where the car behind it wants to drive
random             steers and accelerates smoothly at random
frozen_policy      acts as a trained network does, read from a file
================== ============================================================================
"""
