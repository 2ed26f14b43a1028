"""Fault injection: into the stack of one simulated robot, and into a fleet with its servers and links.

One robot (``spec-decode faults``): does it stop in time, whatever breaks?
    cases     the faults: what goes wrong, how it is injected and ended
    rig       everything that runs: robot, nodes, link, verifier
    operator  a ROS 2 node that plays the operator and injects faults over topics
    trial     tries a case and measures when the robot stopped; report runs the cases and prints them

A fleet (``spec-decode chaos``): does every action end as it may, whatever breaks?
    fault_plan      which faults come when, by a seed
    services        verifiers that can be frozen, killed and restarted
    robot_groups    processes of robots with links of their own
    stalls          times in which the machine itself stood still
    chaos           runs the plan against services and groups; chaos_report prints it
    action_account  the outcome of every action

The log of a robot is read by `lab.demo.robot_log`, that of a fleet by `lab.bench.fleet.log`; processes are started by
`lab.demo.stack` and `transport.process`.
"""
