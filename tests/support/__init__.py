"""What tests share: fakes, small inputs, drawn cases, and programs that tests start."""
