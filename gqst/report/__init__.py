"""What people look at: training curves, live pictures, before and after."""
