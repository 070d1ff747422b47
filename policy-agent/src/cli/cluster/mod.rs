//! `policyctl cluster`: joining clusters, parting with them, and what is wrong with a link.

mod add;
mod check;
mod objects;
mod remove;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use kube::Client;
use policy_core::model::ClusterId;

use crate::sources::kube::Here;

const EXAMPLES: &str = "\
Examples:
  policyctl cluster check --cluster-set clusterset.yaml
  policyctl cluster add cluster-b --remote b.kubeconfig             print what both sides need
  policyctl cluster add cluster-b --remote b.kubeconfig --apply     make it so
  policyctl cluster remove cluster-b --remote b.kubeconfig --apply";

/// What to do with a member.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Let this cluster read another one: print, or apply, what both sides need.
    Add(add::Options),
    /// Take away what `add` made: print it, or delete it.
    Remove(remove::Options),
    /// Tell what is wrong with the links to all members.
    Check(check::Options),
}

/// The two sides of a link.
#[derive(Args, Debug)]
struct Link {
    /// The member's id in the ClusterSet.
    id: ClusterId,
    /// An administrator's kubeconfig of the member.
    #[arg(long, value_name = "KUBECONFIG")]
    remote: PathBuf,
    /// An administrator's kubeconfig of this cluster.
    #[arg(long, value_name = "KUBECONFIG", env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// The namespace of the agents in this cluster, which has the Secret.
    #[arg(long, default_value = "crosswall-system")]
    namespace: String,
    /// The Secret in the member that holds this reader's token; each reader has one of its own.
    #[arg(long, value_name = "NAME", default_value = objects::READER)]
    reader: String,
    /// Change both clusters instead of printing what would be changed.
    #[arg(long)]
    apply: bool,
}

impl Link {
    /// A client of the member.
    async fn remote(&self) -> anyhow::Result<Client> {
        let client = Here::File(self.remote.clone()).client().await;
        client.map_err(anyhow::Error::msg).with_context(|| format!("cannot reach {}", self.id))
    }

    /// A client of this cluster.
    async fn local(&self) -> anyhow::Result<Client> {
        let client = here(self.kubeconfig.as_ref()).client().await;
        client.map_err(anyhow::Error::msg).context("cannot reach this cluster; name its kubeconfig with --kubeconfig")
    }
}

/// The credentials of this cluster.
fn here(kubeconfig: Option<&PathBuf>) -> Here {
    kubeconfig.map_or(Here::InCluster, |path| Here::File(path.clone()))
}

/// Does what was asked for.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    runtime.block_on(async {
        match &options.verb {
            Verb::Add(options) => add::run(options).await,
            Verb::Remove(options) => remove::run(options).await,
            Verb::Check(options) => check::run(options).await,
        }
    })
}
