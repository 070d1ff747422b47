//! `policyctl cluster check`: each member is asked as the agents ask it, and what is wrong is told.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use comfy_table::Cell;
use kube::Client;
use kube::client::Body;
use policy_core::model::{ClusterId, Member, PodKey};
use serde::Serialize;
use tokio::time::timeout;

use crate::cli::output::{Format, bad, good, listing, print, right, trimmed};
use crate::cluster_set::{ClusterSet, MemberEntry, Source};
use crate::convert::{Object, Reading};
use crate::sources::kube::{Collection, Here, Means, Namespaces, Pods, Trouble, cluster_id, list_once};

/// How long a member may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Clocks that are further apart than this make tokens invalid sooner or later than they say.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);
/// How many addresses of one kind of finding are named.
const NAMED: usize = 5;

/// What to check.
#[derive(Args, Debug)]
pub struct Options {
    /// The ClusterSet file.
    #[arg(long, value_name = "PATH", env = "CROSSWALL_CLUSTER_SET")]
    cluster_set: PathBuf,
    /// A kubeconfig of this cluster, which has the Secrets and ClusterProfiles, if the file's local member has none that can be used here.
    #[arg(long, value_name = "KUBECONFIG", env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Which programs give credentials for members that a ClusterProfile describes, as `policy-agent run` has it.
    #[arg(long, value_name = "FILE", env = "CROSSWALL_ACCESS_PROVIDERS")]
    access_providers: Option<PathBuf>,
    /// How to write the answer.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// How a member is reached, and what is wrong.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    id: String,
    namespaces: Option<usize>,
    pods: Option<usize>,
    findings: Vec<Finding>,
}

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    kind: FindingKind,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum FindingKind {
    /// It gives no answer, or none that can be used.
    Unreachable,
    /// It does not let us read what is needed.
    Forbidden,
    /// It says that it is another cluster.
    WrongId,
    /// Its clock is not ours.
    Clock,
    /// Addresses outside its podCIDRs.
    OutsidePodCidrs,
    /// Addresses that another member claims too.
    ClaimedTwice,
}

/// Which pods claim an address.
type Claims = BTreeMap<IpAddr, Vec<PodKey>>;

/// Checks all members; the exit code is 1 if something is wrong.
pub async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let set = ClusterSet::load(&options.cluster_set)?.cluster_set;
    let local = options.kubeconfig.clone().map(Here::File).or_else(|| set.local_access().cloned());
    let means = Means { local, providers: options.access_providers.clone() };
    let mut claims = Claims::new();
    let mut checked = Vec::new();
    for entry in &set.members {
        checked.push(check(entry, &means, &mut claims).await);
    }
    tell_claims(&claims, &mut checked);
    print(&checked, options.output, |checked| text(checked))?;
    let is_well = checked.iter().all(|member| member.findings.is_empty());
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn check(entry: &MemberEntry, means: &Means, claims: &mut Claims) -> Checked {
    let id = &entry.member.id;
    let mut checked = Checked { id: id.to_string(), namespaces: None, pods: None, findings: Vec::new() };
    // A directory has no API server to be asked.
    let Source::Kube(access) = &entry.source else { return checked };
    let client = match access.client(means).await {
        Ok(client) => client,
        Err(trouble) => {
            checked.find(FindingKind::Unreachable, format!("{trouble}"));
            return checked;
        }
    };
    checked.clock(&client).await;
    let pods = within(list_once::<Pods>(&client, id)).await;
    checked.pods = checked.counted(Collection::Pods, &pods);
    let namespaces = within(list_once::<Namespaces>(&client, id)).await;
    checked.namespaces = checked.counted(Collection::Namespaces, &namespaces);
    if let Ok(Some(says)) = within(cluster_id(&client)).await
        && says != *id
    {
        checked.find(
            FindingKind::WrongId,
            format!("its ClusterProperty says that it is {says}; correct the one that is wrong"),
        );
    }
    checked.addresses(&entry.member, &pods.unwrap_or_default(), claims);
    checked
}

async fn within<T>(work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(Trouble::silent(PATIENCE)))
}

impl Checked {
    fn find(&mut self, kind: FindingKind, message: String) {
        let finding = Finding { kind, message };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// How many objects a collection has, or why that is not known.
    fn counted(&mut self, collection: Collection, listed: &Result<Vec<Reading>, Trouble>) -> Option<usize> {
        match listed {
            Ok(objects) => Some(objects.len()),
            Err(trouble) => {
                let kind = if trouble.is_forbidden() { FindingKind::Forbidden } else { FindingKind::Unreachable };
                self.find(kind, format!("{collection}: {trouble}{}", trouble.advice(Some(collection))));
                None
            }
        }
    }

    /// Compares clocks, as well as a header that tells seconds can.
    async fn clock(&mut self, client: &Client) {
        let Ok(request) = http::Request::get("/version").body(Body::empty()) else { return };
        let Ok(Ok(response)) = timeout(PATIENCE, client.send(request)).await else { return };
        let date = response.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
        let Some(theirs) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else { return };
        let ours = SystemTime::now();
        let apart = ours.duration_since(theirs).unwrap_or_else(|error| error.duration());
        if apart > CLOCK_TOLERANCE {
            let way = if ours > theirs { "behind" } else { "ahead of" };
            let message = format!(
                "its clock is {} s {way} this machine's; tokens and certificates end at the wrong time",
                apart.as_secs()
            );
            self.find(FindingKind::Clock, message);
        }
    }

    /// Notes whose addresses are whose, and which no member of these ranges can have.
    fn addresses(&mut self, member: &Member, pods: &[Reading], claims: &mut Claims) {
        let mut outside = Vec::new();
        for reading in pods {
            let Some(Object::Pod(pod)) = &reading.object else { continue };
            for address in pod.addresses.iter().filter(|_| pod.is_workload()) {
                claims.entry(*address).or_default().push(pod.key.clone());
                let is_inside =
                    member.pod_cidrs.is_empty() || member.pod_cidrs.iter().any(|range| range.contains(address));
                if !is_inside {
                    outside.push(format!("{address} ({}/{})", pod.key.namespace, pod.key.name));
                }
            }
        }
        if !outside.is_empty() {
            let message = format!("addresses outside its podCIDRs count for nobody: {}", some_of(&outside));
            self.find(FindingKind::OutsidePodCidrs, message);
        }
    }
}

/// Tells each member which of its addresses others claim too.
fn tell_claims(claims: &Claims, checked: &mut [Checked]) {
    let mut twice: BTreeMap<&ClusterId, Vec<String>> = BTreeMap::new();
    for (address, pods) in claims.iter().filter(|(_, pods)| pods.iter().any(|pod| pod.cluster != pods[0].cluster)) {
        for pod in pods {
            let others: Vec<String> =
                pods.iter().filter(|other| other.cluster != pod.cluster).map(ToString::to_string).collect();
            let claim = format!("{address} ({}/{}, and {})", pod.namespace, pod.name, others.join(", "));
            twice.entry(&pod.cluster).or_default().push(claim);
        }
    }
    for (cluster, claims) in twice {
        if let Some(member) = checked.iter_mut().find(|member| member.id == cluster.as_str()) {
            let message = format!(
                "addresses that another member claims too match no selector, or the local cluster's alone: {}",
                some_of(&claims)
            );
            member.find(FindingKind::ClaimedTwice, message);
        }
    }
}

fn some_of(all: &[String]) -> String {
    let named = all[..all.len().min(NAMED)].join(", ");
    if all.len() > NAMED { format!("{named} and {} more", all.len() - NAMED) } else { named }
}

fn text(checked: &[Checked]) -> String {
    let mut table = listing(["CLUSTER", "LINK", "PODS", "NAMESPACES"]);
    let count = |count: Option<usize>| count.map_or(Cell::new("-"), right);
    for member in checked {
        let link =
            if member.findings.is_empty() { good("well") } else { bad(format!("{} wrong", member.findings.len())) };
        table.add_row([Cell::new(&member.id), link, count(member.pods), count(member.namespaces)]);
    }
    let findings = checked.iter().flat_map(|member| member.findings.iter().map(|finding| (&member.id, finding)));
    let findings: String = findings.map(|(id, finding)| format!("\n {id}: {}\n", finding.message)).collect();
    trimmed(&table) + &findings
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::sources::kube::tests::profiles::{PROFILES, Plugin, profile};
    use crate::sources::kube::tests::server::Server;
    use crate::sources::kube::{Access, ObjectName};

    const PODS: &str = "/api/v1/pods";

    fn pod(name: &str, address: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "shop"}, "status": {"phase": "Running", "podIP": address}})
    }

    /// What is wrong with members of these servers, whose ranges are 10.1.0.0/16 and so on.
    async fn findings(servers: &[(&str, &Server)]) -> Vec<(String, Vec<FindingKind>)> {
        let folder = tempfile::tempdir().expect("a directory");
        let (mut claims, mut checked) = (Claims::new(), Vec::new());
        for (number, (id, server)) in servers.iter().enumerate() {
            let path = folder.path().join(id);
            std::fs::write(&path, server.kubeconfig()).expect("written");
            let range = format!("10.{}.0.0/16", number + 1).parse().expect("a range");
            let entry = MemberEntry {
                member: Member {
                    id: id.parse().expect("an id"),
                    pod_cidrs: vec![range],
                    labels: [].into_iter().collect(),
                },
                source: Source::Kube(Access::Here(Here::File(path))),
                stale_after: None,
                trusted_properties: vec![],
            };
            checked.push(check(&entry, &Means::default(), &mut claims).await);
        }
        tell_claims(&claims, &mut checked);
        let kinds = |member: Checked| (member.id, member.findings.iter().map(|finding| finding.kind).collect());
        checked.into_iter().map(kinds).collect()
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_link_is_found() {
        let (a, b) = (Server::start().await, Server::start().await);
        a.apply(PODS, pod("p", "10.1.0.1"));
        b.apply(PODS, pod("q", "10.2.0.1"));
        let well = vec![("a".to_owned(), vec![]), ("b".to_owned(), vec![])];
        assert_eq!(findings(&[("a", &a), ("b", &b)]).await, well);

        b.apply(PODS, pod("thief", "10.1.0.1"));
        let expect = [FindingKind::OutsidePodCidrs, FindingKind::ClaimedTwice];
        let found = findings(&[("a", &a), ("b", &b)]).await;
        assert_eq!(found, [("a".to_owned(), vec![expect[1]]), ("b".to_owned(), expect.to_vec())]);

        let properties = "/apis/about.k8s.io/v1beta1/clusterproperties";
        a.apply(properties, json!({"metadata": {"name": "cluster.clusterset.k8s.io"}, "spec": {"value": "c"}}));
        assert_eq!(findings(&[("a", &a)]).await, [("a".to_owned(), vec![FindingKind::WrongId])]);

        a.state().refuses = Some(403);
        assert_eq!(findings(&[("a", &a)]).await, [("a".to_owned(), vec![FindingKind::Forbidden; 2])]);
    }

    #[tokio::test]
    async fn who_does_not_answer_is_unreachable() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
        let server = Server::start().await;
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("kubeconfig");
        let text = server.kubeconfig();
        let at = text.find("127.0.0.1:").expect("its address");
        let rest = text[at + 10..].find('\'').expect("its end");
        std::fs::write(&path, format!("{}127.0.0.1:{port}{}", &text[..at], &text[at + 10 + rest..])).expect("written");
        let entry = MemberEntry {
            member: Member { id: "a".parse().expect("an id"), pod_cidrs: vec![], labels: [].into_iter().collect() },
            source: Source::Kube(Access::Here(Here::File(path))),
            stale_after: None,
            trusted_properties: vec![],
        };
        let checked = check(&entry, &Means::default(), &mut Claims::new()).await;
        assert_eq!(checked.findings[0].kind, FindingKind::Unreachable, "{checked:?}");
        assert!(checked.findings[0].message.contains("see that the API server runs"), "{checked:?}");
    }

    #[tokio::test]
    async fn a_member_of_a_cluster_profile_is_asked_with_the_credentials_of_its_program() {
        let (local, remote, plugin) = (Server::start().await, Server::start().await, Plugin::gives("t"));
        remote.state().token = Some("t");
        remote.apply(PODS, pod("p", "10.1.0.1"));
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("kubeconfig");
        std::fs::write(&path, local.kubeconfig()).expect("written");
        let entry = MemberEntry {
            member: Member { id: "b".parse().expect("an id"), pod_cidrs: vec![], labels: [].into_iter().collect() },
            source: Source::Kube(Access::Profile(ObjectName { namespace: "fleet".to_owned(), name: "b".to_owned() })),
            stale_after: None,
            trusted_properties: vec![],
        };
        let mut means = Means { local: Some(Here::File(path)), providers: Some(plugin.file()) };
        let says = async |means: &Means| check(&entry, means, &mut Claims::new()).await;
        let absent = says(&means).await;
        assert_eq!(absent.findings[0].kind, FindingKind::Unreachable);
        assert!(absent.findings[0].message.starts_with("ClusterProfile fleet/b: is not there"), "{absent:?}");
        local.apply(PROFILES, profile(&remote, &json!({})));
        let well = says(&means).await;
        assert_eq!((well.pods, well.findings.as_slice()), (Some(1), &[][..]));
        local.apply(PROFILES, profile(&remote, &json!({"certificate-authority": "/x"})));
        let refused = says(&means).await;
        assert!(refused.findings[0].message.contains("(certificate-authority)"), "{refused:?}");
        means.providers = None;
        let unnamed = says(&means).await;
        assert!(unnamed.findings[0].message.contains("--access-providers"), "{unnamed:?}");
    }
}
