//! Everything of the agent that touches the world: sources, datapath, local API.
