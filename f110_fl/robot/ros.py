"""A ROS 2 node around a `Driver`. The only module that imports rclpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from f110_fl.errors import UserError
from f110_fl.robot.driver import Command, Driver, Limits, Watchdog
from f110_fl.robot.policy import Policy


@dataclass(frozen=True)
class Topics:
    """Names of topics; an empty dead-man topic is none."""

    scan: str = "/scan"
    odometry: str = "/odom"
    drive: str = "/drive"
    dead_man: str = ""


def run(policy: Policy, limits: Limits, topics: Topics) -> int:
    """Drive until the node is shut down; return the exit status.

    Raises:
        UserError: If ROS 2 is not there, or the policy needs what the node cannot give.
    """
    try:
        import rclpy
        from ackermann_msgs.msg import AckermannDriveStamped
        from nav_msgs.msg import Odometry
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import LaserScan
        from std_msgs.msg import Bool
    except ImportError as error:
        raise UserError(
            f"{error.name} is missing: source ROS 2 first (. /opt/ros/DISTRIBUTION/setup.bash), "
            "with ackermann_msgs installed; --simulate needs neither"
        ) from None

    rclpy.init()
    node = rclpy.create_node("f110_fl")
    driver = Driver(policy, limits, node.get_logger().info)
    publisher = node.create_publisher(AckermannDriveStamped, topics.drive, 10)

    def send(command: Command) -> None:
        message = AckermannDriveStamped()
        message.header.stamp = node.get_clock().now().to_msg()
        message.drive.steering_angle, message.drive.speed = command.steer, command.speed
        publisher.publish(message)

    watchdog = Watchdog(driver.period, lambda: send(Command(0.0, 0.0, "no command was chosen")))

    def now() -> float:
        return float(node.get_clock().now().nanoseconds) * 1e-9

    def on_scan(scan: Any) -> None:
        angles = scan.angle_min, scan.angle_increment
        driver.on_scan(now(), scan.ranges, *angles, scan.range_min, scan.range_max)

    def on_odometry(odometry: Any) -> None:
        twist = odometry.twist.twist
        driver.on_odometry(now(), twist.linear.x, twist.angular.z, twist.linear.y)

    def on_timer() -> None:
        send(driver.decide(now()))
        watchdog.feed()

    node.create_subscription(LaserScan, topics.scan, on_scan, qos_profile_sensor_data)
    node.create_subscription(Odometry, topics.odometry, on_odometry, qos_profile_sensor_data)
    if topics.dead_man:
        node.create_subscription(Bool, topics.dead_man, lambda m: driver.on_dead_man(m.data), 10)
    node.create_timer(driver.period, on_timer)
    watchdog.start()
    try:
        rclpy.spin(node)
    except KeyboardInterrupt:
        pass
    finally:
        watchdog.close()
        send(Command(0.0, 0.0, "the node ends"))
        node.destroy_node()
        rclpy.try_shutdown()
    return 0
