//! `policyctl cluster add`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::config::Kubeconfig;
use kube::{Api, Client};
use tokio::time::{Instant, sleep};

use super::Link;
use super::objects::{self, READER_NAMESPACE};
use crate::cli::output::write;

/// How long the member may take to make a token.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to join.
#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    link: Link,
    /// The address of the member's API server as this cluster's nodes reach it, if it is not the one in --remote.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
}

/// Prints or applies what a link needs.
pub async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let Options { link, server } = options;
    let server = match server {
        Some(server) => server.clone(),
        None => server_of(&Kubeconfig::read_from(&link.remote).context("cannot read --remote")?)?,
    };
    let of_member = objects::of_member(&link.reader)?;
    if !link.apply {
        let named_token = format!("<token of Secret {READER_NAMESPACE}/{}>", link.reader);
        let kubeconfig = objects::kubeconfig(&link.id, &server, "<ca.crt of that Secret, base64>", &named_token)?;
        let secret = objects::secret(&link.id, &link.namespace, &kubeconfig);
        let text = format!(
            "# In {id}:\n{}---\n# In this cluster:\n{}---\n# In this cluster's ClusterSet:\n{}\n# --apply makes all but the last of it so.\n",
            objects::yaml(&of_member)?,
            objects::yaml(&[secret])?,
            commented(&member(link, &[])),
            id = link.id,
        );
        write(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let (remote, local) = (link.remote().await?, link.local().await?);
    for object in &of_member {
        objects::apply(&remote, object).await?;
        write(format!("{}: {} applied\n", link.id, objects::name(object)).as_bytes())?;
    }
    let (token, authority) = token(&remote, &link.reader).await?;
    let secret =
        objects::secret(&link.id, &link.namespace, &objects::kubeconfig(&link.id, &server, &authority, &token)?);
    objects::apply(&local, &secret).await?;
    write(format!("this cluster: {} applied\n", objects::name(&secret)).as_bytes())?;
    let ranges = ranges(&remote).await.unwrap_or_default();
    let advice = format!(
        "\nAdd the member to this cluster's ClusterSet, and see `policyctl cluster check`:\n\n{}",
        member(link, &ranges)
    );
    write(advice.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn server_of(kubeconfig: &Kubeconfig) -> anyhow::Result<String> {
    let context = kubeconfig.current_context.as_ref().context("--remote has no current-context")?;
    let context = kubeconfig.contexts.iter().find(|named| named.name == *context);
    let cluster = context.and_then(|named| named.context.as_ref()).map(|context| &context.cluster);
    let cluster = cluster.and_then(|cluster| kubeconfig.clusters.iter().find(|named| named.name == *cluster));
    let server = cluster.and_then(|named| named.cluster.as_ref()?.server.clone());
    server.context("--remote names no server in its current context; name one with --server")
}

/// The token and the certificate authority that the member has made for a reader.
async fn token(remote: &Client, reader: &str) -> anyhow::Result<(String, String)> {
    let secrets = Api::<Secret>::namespaced(remote.clone(), READER_NAMESPACE);
    let begun = Instant::now();
    loop {
        let secret = secrets.get(reader).await.context("cannot read the token that was asked for")?;
        let data = secret.data.unwrap_or_default();
        if let (Some(token), Some(authority)) = (data.get("token"), data.get("ca.crt")) {
            let token = String::from_utf8(token.0.clone()).context("the token is not UTF-8")?;
            let authority = serde_json::to_value(authority).context("cannot write the certificate")?;
            return Ok((token, authority.as_str().unwrap_or_default().to_owned()));
        }
        anyhow::ensure!(
            begun.elapsed() < PATIENCE,
            "the member has made no token in Secret {READER_NAMESPACE}/{reader} for {} s; see that its kube-controller-manager runs",
            PATIENCE.as_secs()
        );
        sleep(Duration::from_millis(200)).await;
    }
}

/// The ranges from which the member's nodes give their pods addresses, where it says so.
async fn ranges(remote: &Client) -> anyhow::Result<Vec<String>> {
    let nodes = Api::<Node>::all(remote.clone()).list(&kube::api::ListParams::default()).await?;
    let ranges =
        nodes.items.into_iter().filter_map(|node| node.spec).flat_map(|spec| spec.pod_cidrs.unwrap_or_default());
    let mut ranges: Vec<String> = ranges.collect();
    ranges.sort();
    ranges.dedup();
    Ok(ranges)
}

/// The member's record in the ClusterSet.
fn member(link: &Link, ranges: &[String]) -> String {
    let ranges = if ranges.is_empty() {
        "  podCIDRs: []   # the ranges of its pods: whatever it says of other addresses does not count\n".to_owned()
    } else {
        format!("  podCIDRs: [{}]   # of its nodes; one range that holds them all lasts longer\n", ranges.join(", "))
    };
    format!(
        "- id: {}\n  source: {{kubeconfig: {{secretRef: {{namespace: {}, name: {}}}}}}}\n{ranges}",
        link.id, link.namespace, link.id
    )
}

fn commented(text: &str) -> String {
    text.lines().map(|line| format!("# {line}\n")).collect()
}
