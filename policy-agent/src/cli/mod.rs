//! The command line of `policyctl`: one file per verb.

mod ask;
mod cluster;
mod completions;
mod explain;
mod get;
mod issues;
mod output;
mod services;
mod simulate;
mod status;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  policyctl status                            how the agent of this node is
  policyctl get endpoints                     the pods of this node, and what happened to their packets
  policyctl issues                            what is wrong, and what to do
  policyctl explain cluster-a/shop/web-1 cluster-b/db/pg-0 tcp/5432
                                              may they talk, and what would have to change
  policyctl cluster check --cluster-set clusterset.yaml
                                              what is wrong with the links to other clusters
  policyctl simulate clusterset.yaml          who may talk in a ClusterSet of manifests: no agent, no root

`policyctl VERB --help` has more of them.";

/// What Crosswall decides, and why.
#[derive(Debug, Parser)]
#[command(name = "policyctl", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show how the agent of this node is.
    Status(status::Options),
    /// List what the agent knows.
    Get(get::Options),
    /// List what is wrong, and what to do about it.
    Issues(issues::Options),
    /// Explain why a connection is allowed or denied, and what would have to change.
    Explain(explain::Options),
    /// Decide who may talk in a ClusterSet of manifests: no root, no kernel, no cluster.
    Simulate(simulate::Options),
    /// Join a cluster, part with it, or tell what is wrong with a link.
    Cluster(cluster::Options),
    /// Print completions for a shell.
    Completions(completions::Options),
}

impl Cli {
    /// Runs the verb that was asked for.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Status(options) => status::run(&options),
            Verb::Get(options) => get::run(&options),
            Verb::Issues(options) => issues::run(&options),
            Verb::Explain(options) => explain::run(&options),
            Verb::Simulate(options) => simulate::run(&options),
            Verb::Cluster(options) => cluster::run(&options),
            Verb::Completions(options) => completions::run(&options),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
