"""Frames of a race, and the window that shows them; nothing here is imported unless asked for.

`sim.rendering.renderer` draws with Pillow, `sim.rendering.window` needs pygame.
"""
