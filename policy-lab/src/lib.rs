//! ClusterSets out of network namespaces, for the demo, the tests and the benches.
