"""What rounding costs, place by place and width by width."""
