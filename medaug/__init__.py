"""medaug."""
