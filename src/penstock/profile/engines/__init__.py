"""What can be measured: a module per kind of engine, none of which knows another."""
