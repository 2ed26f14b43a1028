"""The ROS 2 nodes; with lab and launch files the only place that imports rclpy."""
