"""Operations on arrays that networks, losses and metrics are made of."""
