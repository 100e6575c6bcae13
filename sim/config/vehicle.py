"""Settings of a car's body, motor and range finder, and of how cars differ."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from sim.settings import Config


class TyreConfig(Config):
    """How the tyres of an axle push sideways, by their slip angle, in the single-track model."""

    kind: Literal["linear", "saturating"] = Field(
        "linear",
        description="linear: in proportion, without end, as in f1tenth_gym; saturating: as linear "
        "for small angles, and never more than friction times the axle's load (Fiala's tyre). [-]",
    )


class MagicFormulaConfig(Config):
    """Tyres of the drift model: Pacejka's Magic Formula, of slip along and across at once.

    Names and defaults are CommonRoad's (a car's tyre, from the handbook of ADAMS), of an upright
    wheel: what it says of camber is left out. Forces are those of an axle.
    """

    p_cx1: float = Field(1.6411, gt=0, le=10, description="Shape of the force along. [-]")
    p_dx1: float = Field(
        1.1739,
        gt=0,
        le=1e3,
        description="Friction along where that across is p_dy1; the car's friction over p_dy1 is "
        "a factor of both. [-]",
    )
    p_ex1: float = Field(0.46403, ge=-100, le=1, description="Curvature along. [-]")
    p_kx1: float = Field(
        22.303, gt=0, le=1e3, description="Stiffness along: force over load and slip. [-]"
    )
    p_hx1: float = Field(0.0012297, ge=-1, le=1, description="Shift of the slip along. [-]")
    p_vx1: float = Field(
        -8.8098e-06, ge=-1, le=1, description="Shift of the curve along, within its sine. [1/N]"
    )
    r_bx1: float = Field(
        13.276, ge=0, le=1e3, description="How slip across lessens the force along. [1/rad]"
    )
    r_bx2: float = Field(-13.778, ge=-1e3, le=1e3, description="Less so with slip along. [-]")
    r_cx1: float = Field(1.2568, ge=0, le=2, description="Shape of that. [-]")
    r_ex1: float = Field(0.65225, ge=-100, le=1, description="Curvature of that. [-]")
    r_hx1: float = Field(0.0050722, ge=-0.1, le=0.1, description="Shift of that. [rad]")
    p_cy1: float = Field(1.3507, gt=0, le=10, description="Shape of the force across. [-]")
    p_dy1: float = Field(
        1.0489,
        gt=0,
        le=1e3,
        description="Friction across that p_dx1 goes with; the car's friction is what counts. [-]",
    )
    p_ey1: float = Field(-0.0074722, ge=-100, le=1, description="Curvature across. [-]")
    p_ky1: float = Field(
        -21.92, lt=0, ge=-1e3, description="Stiffness across: force over load and angle. [1/rad]"
    )
    r_by1: float = Field(
        7.1433, ge=0, le=1e3, description="How slip along lessens the force across. [-]"
    )
    r_by2: float = Field(9.1916, ge=-1e3, le=1e3, description="Less so with slip across. [1/rad]")
    r_by3: float = Field(-0.027856, ge=-1, le=1, description="Shift of that angle. [rad]")
    r_cy1: float = Field(1.0719, ge=0, le=2, description="Shape of that. [-]")
    r_ey1: float = Field(-0.27572, ge=-100, le=1, description="Curvature of that. [-]")
    r_hy1: float = Field(5.7448e-06, ge=-0.1, le=0.1, description="Shift of that. [-]")
    r_vy1: float = Field(
        -0.027825, ge=-10, le=10, description="Force across by slip along, over friction. [-]"
    )
    r_vy4: float = Field(12.12, ge=-1e3, le=1e3, description="Less so with slip across. [1/rad]")
    r_vy5: float = Field(1.9, ge=-100, le=100, description="Shape of that. [-]")
    r_vy6: float = Field(-10.704, ge=-1e3, le=1e3, description="Its slope with slip along. [-]")


class DriftConfig(Config):
    """What the drift model has beside the single-track model: wheels that turn, and their tyres."""

    wheel_radius: float = Field(
        0.049, gt=0, le=10, description="Rolling radius of the wheels, R_w. [m]"
    )
    wheel_inertia: float = Field(
        1.7e-3,
        gt=0,
        le=1e4,
        description="Moment of inertia of an axle's wheels, and of what turns with them, I_y_w. "
        "[kg m^2]",
    )
    drive_front: float = Field(
        0.5, ge=0, le=1, description="Front axle's share of the driving torque, T_se. [-]"
    )
    brake_front: float = Field(
        0.5, ge=0, le=1, description="Front axle's share of the braking torque, T_sb. [-]"
    )
    tyre: MagicFormulaConfig = Field(MagicFormulaConfig(), description="Of both axles. [-]")


class VehicleConfig(Config):
    """One car. The defaults are f1tenth_gym v1.0.0's identified 1:10 car."""

    friction: float = Field(
        1.0489, gt=0, le=1e6, description="Tyre-road friction coefficient mu. [-]"
    )
    stiffness_front: float = Field(
        4.718,
        gt=0,
        le=1e4,
        description="Front cornering stiffness C_Sf, of the single-track model. [1/rad]",
    )
    stiffness_rear: float = Field(
        5.4562,
        gt=0,
        le=1e4,
        description="Rear cornering stiffness C_Sr, of the single-track model. [1/rad]",
    )
    front_axle: float = Field(
        0.15875, gt=0, le=1e4, description="Centre of gravity to front axle, lf. [m]"
    )
    rear_axle: float = Field(
        0.17145, gt=0, le=1e4, description="Centre of gravity to rear axle, lr. [m]"
    )
    cg_height: float = Field(
        0.074, ge=0, le=1e4, description="Height of the centre of gravity, h. [m]"
    )
    mass: float = Field(3.74, gt=0, le=1e4, description="Mass m. [kg]")
    yaw_inertia: float = Field(
        0.04712, gt=0, le=1e5, description="Yaw moment of inertia I_z. [kg m^2]"
    )
    steer_max: float = Field(
        0.4189, gt=0, lt=1.5, description="Largest steering angle to either side. [rad]"
    )
    steer_rate_max: float = Field(
        3.2, gt=0, le=1e3, description="Largest steering rate to either side. [rad/s]"
    )
    switch_speed: float = Field(
        7.319, gt=0, le=1e3, description="Speed above which motor power limits acceleration. [m/s]"
    )
    acceleration_max: float = Field(
        9.51, gt=0, le=1e4, description="Largest acceleration and deceleration. [m/s^2]"
    )
    speed_min: float = Field(-5.0, lt=0, ge=-1e3, description="Fastest reverse speed. [m/s]")
    speed_max: float = Field(20.0, gt=0, le=1e3, description="Fastest forward speed. [m/s]")
    length: float = Field(0.58, gt=0, le=1e4, description="Length of the body's rectangle. [m]")
    width: float = Field(0.31, gt=0, le=1e4, description="Width of the body's rectangle. [m]")
    model: Literal["single_track", "kinematic", "drift"] = Field(
        "single_track",
        description="single_track: with tyre forces from 0.5 m/s up; kinematic: without slipping "
        "tyres at any speed; drift: CommonRoad's single-track drift model, with wheels that spin "
        "and lock, and tyres that slip along and across, from 0.2 m/s up. [-]",
    )
    tyre: TyreConfig = Field(TyreConfig(), description="Of the single-track model. [-]")
    drift: DriftConfig = Field(DriftConfig(), description="Of the drift model. [-]")
    integrator: Literal["rk4", "euler"] = Field(
        "rk4", description="Runge-Kutta of order 4, or Euler's method. [-]"
    )
    control: Literal["targets", "rates"] = Field(
        "targets",
        description="What commands mean: targets: steering angle and speed, which the car's "
        "controllers pursue; rates: steering rate and acceleration. [-]",
    )
    steer_delay: int = Field(
        2, ge=0, le=100, description="Physics steps until a steering target takes effect. [steps]"
    )
    steer_gain: float = Field(
        1.0, ge=0.5, le=2, description="Steering angle that targets give, over the target. [-]"
    )
    steer_trim: float = Field(
        0.0, ge=-0.5, le=0.5, description="Steering angle, to the left, of a target of 0. [rad]"
    )
    steer_rate_noise: float = Field(
        0.0,
        ge=0,
        le=100,
        description="Standard deviation of the noise of the steering rate, drawn anew at each "
        "physics step. [rad/s]",
    )
    steer_deadband: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Steering targets nearer to the one held than this are ignored. [rad]",
    )
    speed_gain: float = Field(
        1.0, ge=0.5, le=2, description="Speed that targets give, over the target. [-]"
    )
    speed_lag: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Time constant of the first-order lag of speed targets; 0: none. [s]",
    )
    command_delay: int = Field(
        0,
        ge=0,
        le=100,
        description="Physics steps until targets, of angle and speed, reach the car; the angle "
        "then waits for steer_delay, too. [steps]",
    )
    command_jitter: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Probability that new targets reach the car one physics step later. [-]",
    )
    battery: float = Field(
        1.0,
        ge=0.1,
        le=1,
        description="Battery voltage over that of a full one: factor of acceleration_max, forward, "
        "and of speed_max as limits of the motor. [-]",
    )
    odometry_speed_scale: float = Field(
        1.0, ge=0.5, le=2, description="Speed that motion observes, over the true one. [-]"
    )
    odometry_yaw_rate_bias: float = Field(
        0.0, ge=-1, le=1, description="Yaw rate that motion observes, less the true one. [rad/s]"
    )
    odometry_yaw_rate_drift: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Random walk of that bias: its standard deviation after a second. "
        "[rad/s/sqrt(s)]",
    )
    odometry_position_drift: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Random walk of the position that pose observes: standard deviation of x and "
        "of y after a metre driven. [m/sqrt(m)]",
    )
    odometry_yaw_drift: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Random walk of the yaw that pose observes: its standard deviation after a "
        "second. [rad/sqrt(s)]",
    )


class LidarConfig(Config):
    """A planar scanning range finder."""

    beams: int = Field(1080, ge=1, le=100_000, description="Number of beams. [-]")
    field_of_view: float = Field(
        4.7, gt=0, le=6.283185307179586, description="Angle from first to last beam. [rad]"
    )
    max_range: float = Field(30.0, gt=0, le=1e4, description="Reading when nothing is hit. [m]")
    noise_std: float = Field(
        0.01, ge=0, le=1e4, description="Standard deviation of the range noise. [m]"
    )
    dropout: float = Field(
        0.0, ge=0, le=1, description="Probability that a beam returns nothing. [-]"
    )
    mount_x: float = Field(
        0.0, ge=-1e4, le=1e4, description="Sensor position ahead of the centre of gravity. [m]"
    )
    mount_yaw_error: float = Field(
        0.0,
        ge=-0.5,
        le=0.5,
        description="Turn of the sensor to the left that nothing that reads it knows of. [rad]",
    )
    range_scale: float = Field(
        1.0, ge=0.5, le=2, description="Range that is read, over the true one. [-]"
    )


Range = tuple[float, float]


def _drawn(model: type[Config], name: str) -> Any:
    """Field for the range of a setting, which it describes as the setting's own model does."""
    return Field(None, description=model.model_fields[name].description)


class HeterogeneityConfig(Config):
    """What differs between cars: smallest and largest value that each car draws at a reset.

    Every car of every environment draws for itself, uniformly, from the environment's own
    generator. Whatever is left out is as in the car's own settings.
    """

    friction: Range | None = _drawn(VehicleConfig, "friction")
    stiffness_front: Range | None = _drawn(VehicleConfig, "stiffness_front")
    stiffness_rear: Range | None = _drawn(VehicleConfig, "stiffness_rear")
    cg_height: Range | None = _drawn(VehicleConfig, "cg_height")
    mass: Range | None = _drawn(VehicleConfig, "mass")
    yaw_inertia: Range | None = _drawn(VehicleConfig, "yaw_inertia")
    steer_delay: tuple[int, int] | None = _drawn(VehicleConfig, "steer_delay")
    lidar_noise_std: Range | None = _drawn(LidarConfig, "noise_std")
    lidar_dropout: Range | None = _drawn(LidarConfig, "dropout")
    steer_gain: Range | None = _drawn(VehicleConfig, "steer_gain")
    steer_trim: Range | None = _drawn(VehicleConfig, "steer_trim")
    steer_deadband: Range | None = _drawn(VehicleConfig, "steer_deadband")
    speed_gain: Range | None = _drawn(VehicleConfig, "speed_gain")
    speed_lag: Range | None = _drawn(VehicleConfig, "speed_lag")
    command_delay: tuple[int, int] | None = _drawn(VehicleConfig, "command_delay")
    command_jitter: Range | None = _drawn(VehicleConfig, "command_jitter")
    battery: Range | None = _drawn(VehicleConfig, "battery")
    odometry_speed_scale: Range | None = _drawn(VehicleConfig, "odometry_speed_scale")
    odometry_yaw_rate_bias: Range | None = _drawn(VehicleConfig, "odometry_yaw_rate_bias")
    lidar_mount_yaw_error: Range | None = _drawn(LidarConfig, "mount_yaw_error")
    lidar_range_scale: Range | None = _drawn(LidarConfig, "range_scale")
    # New ones stand last: they leave what is drawn for the others as it was.
    steer_rate_noise: Range | None = _drawn(VehicleConfig, "steer_rate_noise")
    odometry_yaw_rate_drift: Range | None = _drawn(VehicleConfig, "odometry_yaw_rate_drift")
    odometry_position_drift: Range | None = _drawn(VehicleConfig, "odometry_position_drift")
    odometry_yaw_drift: Range | None = _drawn(VehicleConfig, "odometry_yaw_drift")

    @model_validator(mode="after")
    def _allowed(self) -> HeterogeneityConfig:
        for name, bounds in self:
            if bounds is None:
                continue
            low, high = bounds
            if low > high:
                raise ValueError(f"{name}: the smallest, {low:g}, is above the largest, {high:g}")
            lidar = name.startswith("lidar_")
            model: type[Config] = LidarConfig if lidar else VehicleConfig
            for value in bounds:
                model.model_validate({name.removeprefix("lidar_"): value})
        return self
