"""MMa4CTR's network, and the baselines that it is compared with."""
