//! The ClusterSet file: which clusters there are, where their objects come from, and what their addresses may be.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use policy_core::model::{
    ClusterConfig, ClusterId, ClusterLabels, Issue, IssueCode, Labels, Level, Member, Scope, Text,
};

use crate::convert::cidr::parse_cidr;
use crate::convert::reader::{At, Notes, Unread, collect, elements_of};
use crate::document::{self, Format};
use crate::sources::kube::{Access, Here, KubeconfigSecret, ObjectName};

/// What a ClusterSet file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSet {
    /// The local cluster, where the file names it; it is a member.
    pub local: Option<ClusterId>,
    /// The scope of peers that are not cluster-qualified.
    pub default_scope: Scope,
    /// Where the cluster label exists.
    pub cluster_labels: ClusterLabels,
    /// The members in written order; their ids differ.
    pub members: Vec<MemberEntry>,
}

/// A member's join record, and where its objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberEntry {
    /// The join record.
    pub member: Member,
    /// Where its objects come from.
    pub source: Source,
    /// How long its last known state stays while it cannot be reached; for ever where absent.
    pub stale_after: Option<Duration>,
    /// The ClusterProperty keys of this member that are believed.
    pub trusted_properties: Vec<Text>,
}

/// Where a member's objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory of manifests.
    Directory(PathBuf),
    /// An API server.
    Kube(Access),
}

/// A ClusterSet file that can be used, and what is still questionable about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What the file says.
    pub cluster_set: ClusterSet,
    /// Warnings.
    pub issues: Vec<Issue>,
}

/// Why a ClusterSet file cannot be used: all that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSetError {
    /// At least one.
    pub issues: Vec<Issue>,
}

/// The key of a Secret that holds a kubeconfig, if the ClusterSet names no other.
const KUBECONFIG_KEY: &str = "kubeconfig";

impl ClusterSet {
    /// The credentials that this machine has for the local cluster's API server, if its objects come from one.
    pub fn local_access(&self) -> Option<&Here> {
        let local = self.members.iter().find(|entry| self.local.as_ref() == Some(&entry.member.id))?;
        match &local.source {
            Source::Kube(Access::Here(here)) => Some(here),
            Source::Kube(Access::Secret(_) | Access::Profile(_)) | Source::Directory(_) => None,
        }
    }

    /// Reads the file at `path`.
    pub fn load(path: &Path) -> Result<Loaded, ClusterSetError> {
        match document::read(path) {
            Ok((bytes, _)) => Self::parse(&bytes, path),
            Err(error) => Err(ClusterSetError::whole(path, &Unreadable(&error))),
        }
    }

    /// Reads the content of the file at `path`, to which the paths in it are relative.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Loaded, ClusterSetError> {
        let documents = document::parse(bytes, Format::Yaml).map_err(|error| ClusterSetError::whole(path, &error))?;
        let [document] = documents.as_slice() else {
            let message = format!("holds {} documents; it must be one ClusterSet", documents.len());
            return Err(ClusterSetError::whole(path, &message));
        };
        let object = path.display().to_string();
        let mut notes = Notes::new(&object, IssueCode::UnreadableClusterSet);
        let base = path.parent().unwrap_or(Path::new(""));
        match read(&At::root(document), base, &mut notes) {
            Ok(cluster_set) => Ok(Loaded { cluster_set, issues: notes.into_issues() }),
            Err(Unread) => {
                let mut issues = notes.into_issues();
                issues.retain(|issue| issue.level == Level::Error);
                Err(ClusterSetError { issues })
            }
        }
    }

    /// The ClusterSet as a node of cluster `local` sees it.
    pub fn config(&self, local: &ClusterId) -> ClusterConfig {
        ClusterConfig {
            local: local.clone(),
            default_scope: self.default_scope,
            cluster_labels: self.cluster_labels,
            members: self.members.iter().map(|entry| entry.member.clone()).collect(),
        }
    }
}

impl ClusterSetError {
    fn whole(path: &Path, message: &dyn fmt::Display) -> Self {
        let issue = Issue {
            code: IssueCode::UnreadableClusterSet,
            level: Level::Error,
            object: path.display().to_string(),
            field: String::new(),
            message: message.to_string(),
        };
        Self { issues: vec![issue] }
    }
}

impl fmt::Display for ClusterSetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, issue) in self.issues.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{issue}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ClusterSetError {}

struct Unreadable<'e>(&'e io::Error);

impl fmt::Display for Unreadable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot be read: {}", self.0)
    }
}

fn read(at: &At<'_>, base: &Path, notes: &mut Notes<'_>) -> Result<ClusterSet, Unread> {
    at.map(notes)?;
    constant(&at.member("kind"), "ClusterSet", notes)?;
    constant(&at.member("apiVersion"), "crosswall.dev/v1alpha1", notes)?;
    let known = at.only_names(&["apiVersion", "kind", "metadata", "spec"], notes);
    let metadata = at.get("metadata").map_or(Ok(()), |metadata| {
        metadata.only_names(&["name", "namespace", "labels", "annotations", "creationTimestamp", "uid"], notes)
    });
    let spec = spec(&at.member("spec"), base, notes);
    known?;
    metadata?;
    spec
}

fn spec(at: &At<'_>, base: &Path, notes: &mut Notes<'_>) -> Result<ClusterSet, Unread> {
    at.map(notes)?;
    let known = at.only_names(&["local", "defaultPeerScope", "clusterLabels", "members"], notes);
    let local = at.get("local").map(|place| cluster_id(&place, notes)).transpose();
    let default_scope = at.get("defaultPeerScope").map_or(Ok(Scope::default()), |place| {
        one_of(&place, &[("Local", Scope::Local), ("ClusterSet", Scope::ClusterSet)], notes)
    });
    let cluster_labels = at.get("clusterLabels").map_or(Ok(ClusterLabels::default()), |place| {
        let modes = [("Implicit", ClusterLabels::Implicit), ("Explicit", ClusterLabels::Explicit)];
        one_of(&place, &modes, notes)
    });
    let members = members(&at.member("members"), base, notes);
    known?;
    let (local, members) = (local?, members?);
    if let Some(local) = &local
        && !members.iter().any(|entry| entry.member.id == *local)
    {
        return Err(notes.unreadable(&at.member("local"), format_args!("no member has the id {:?}", local.as_str())));
    }
    let is_local = |entry: &MemberEntry| local.as_ref() == Some(&entry.member.id);
    if let Some(number) = members.iter().position(|entry| is_local(entry) && entry.stale_after.is_some()) {
        let message = "the last known state of the local cluster always stays: without it no policy would be enforced";
        let list = at.member("members");
        let elements = list.elements(notes)?;
        notes.warn(IssueCode::IneffectiveField, &elements[number].member("staleAfter"), message);
    }
    Ok(ClusterSet { local, default_scope: default_scope?, cluster_labels: cluster_labels?, members })
}

fn members(at: &At<'_>, base: &Path, notes: &mut Notes<'_>) -> Result<Vec<MemberEntry>, Unread> {
    let mut members = Ok(Vec::new());
    let mut ids: HashMap<ClusterId, String> = HashMap::new();
    let elements = at.elements(notes)?;
    if elements.is_empty() {
        return Err(notes.unreadable(at, "a ClusterSet has at least one member, the local cluster"));
    }
    for element in &elements {
        let read = member(element, base, notes).and_then(|entry| {
            let place = element.member("id");
            match ids.insert(entry.member.id.clone(), place.to_string()) {
                None => Ok(entry),
                Some(first) => {
                    Err(notes.unreadable(&place, format_args!("{} is the id at {first} too", entry.member.id)))
                }
            }
        });
        collect(&mut members, read);
    }
    let members = members?;
    warn_of_overlaps(&members, &elements, notes);
    Ok(members)
}

fn member(at: &At<'_>, base: &Path, notes: &mut Notes<'_>) -> Result<MemberEntry, Unread> {
    const KNOWN: [&str; 6] = ["id", "source", "podCIDRs", "labels", "staleAfter", "trustedProperties"];
    at.map(notes)?;
    let known = at.only_names(&KNOWN, notes);
    let id = cluster_id(&at.member("id"), notes);
    let name = id.as_ref().map_or("?", |id| id.as_str()).to_owned();
    let source = source(&at.member("source"), &name, base, notes);
    let pod_cidrs = strings(at, "podCIDRs", notes, |place, text, notes| {
        let cidr = parse_cidr(text).map_err(|why| notes.unreadable(place, format_args!("{text:?} {why}")))?;
        if cidr.masked {
            let message = format_args!("{text} has host bits, which are ignored; write {}", cidr.net);
            notes.warn(IssueCode::MaskedHostBits, place, message);
        }
        Ok(cidr.net)
    });
    let labels = at.get("labels").map_or(Ok(Labels::new()), |place| labels(&place, notes));
    let stale_after = at.get("staleAfter").map(|place| duration(&place, notes)).transpose();
    let trusted_properties = strings(at, "trustedProperties", notes, |_, text, _| Ok(text.into()));
    known?;
    let member = Member { id: id?, pod_cidrs: pod_cidrs?, labels: labels? };
    Ok(MemberEntry { member, source: source?, stale_after: stale_after?, trusted_properties: trusted_properties? })
}

fn source(at: &At<'_>, member: &str, base: &Path, notes: &mut Notes<'_>) -> Result<Source, Unread> {
    const KINDS: [&str; 5] = ["directory", "inCluster", "kubeconfig", "clusterProfile", "etcd"];
    at.map(notes)?;
    let known = at.only_names(&KINDS, notes);
    let kinds: Vec<&str> = KINDS.into_iter().filter(|kind| at.get(kind).is_some()).collect();
    let source = match kinds.as_slice() {
        ["directory"] => {
            let directory = at.member("directory");
            let known = directory.only_names(&["path"], notes);
            let path = path(&directory, "a directory", base, notes);
            known.and(path).map(Source::Directory)
        }
        ["inCluster"] => {
            let place = at.member("inCluster");
            place.map(notes)?;
            place.only_names(&[], notes).map(|()| Source::Kube(Access::Here(Here::InCluster)))
        }
        ["kubeconfig"] => kubeconfig(&at.member("kubeconfig"), base, notes).map(Source::Kube),
        ["clusterProfile"] => cluster_profile(&at.member("clusterProfile"), notes).map(Source::Kube),
        ["etcd"] => Err(notes.unreadable(
            &at.member("etcd"),
            format_args!("source etcd of member {member} is not supported by this version; use kubeconfig"),
        )),
        [] if known.is_err() => Err(Unread),
        kinds => Err(notes.unreadable(at, format_args!("member {member} needs one source, not {}", kinds.len()))),
    };
    known?;
    source
}

/// A kubeconfig: a file's, or a Secret's.
fn kubeconfig(at: &At<'_>, base: &Path, notes: &mut Notes<'_>) -> Result<Access, Unread> {
    at.map(notes)?;
    at.only_names(&["path", "secretRef"], notes)?;
    match (at.get("path"), at.get("secretRef")) {
        (Some(_), None) => path(at, "a kubeconfig file", base, notes).map(|path| Access::Here(Here::File(path))),
        (None, Some(secret)) => secret_ref(&secret, notes).map(Access::Secret),
        _ => Err(notes.unreadable(at, "needs either path or secretRef")),
    }
}

fn secret_ref(at: &At<'_>, notes: &mut Notes<'_>) -> Result<KubeconfigSecret, Unread> {
    at.map(notes)?;
    let known = at.only_names(&["namespace", "name", "key"], notes);
    let object = object_name(at, notes);
    let key = if at.get("key").is_some() { filled(at, "key", notes) } else { Ok(KUBECONFIG_KEY.to_owned()) };
    known?;
    Ok(KubeconfigSecret { object: object?, key: key? })
}

fn cluster_profile(at: &At<'_>, notes: &mut Notes<'_>) -> Result<Access, Unread> {
    at.map(notes)?;
    let known = at.only_names(&["namespace", "name"], notes);
    let object = object_name(at, notes);
    known?;
    object.map(Access::Profile)
}

fn object_name(at: &At<'_>, notes: &mut Notes<'_>) -> Result<ObjectName, Unread> {
    let (namespace, name) = (filled(at, "namespace", notes), filled(at, "name", notes));
    Ok(ObjectName { namespace: namespace?, name: name? })
}

/// A text that is not empty.
fn filled(at: &At<'_>, name: &str, notes: &mut Notes<'_>) -> Result<String, Unread> {
    let place = at.member(name);
    match place.string(notes)? {
        "" => Err(notes.unreadable(&place, "must not be empty")),
        text => Ok(text.to_owned()),
    }
}

/// The member `path` of a source.
fn path(at: &At<'_>, what: &str, base: &Path, notes: &mut Notes<'_>) -> Result<PathBuf, Unread> {
    let place = at.member("path");
    match place.string(notes)? {
        "" => Err(notes.unreadable(&place, format_args!("must name {what}"))),
        path => Ok(base.join(path)),
    }
}

fn labels(at: &At<'_>, notes: &mut Notes<'_>) -> Result<Labels, Unread> {
    let mut labels = Ok(Vec::new());
    for member in at.members(notes)? {
        let read = member.string(notes).map(|value| (Text::from(member.name()), Text::from(value)));
        collect(&mut labels, read);
    }
    Ok(labels?.into_iter().collect())
}

fn strings<T>(
    at: &At<'_>,
    name: &str,
    notes: &mut Notes<'_>,
    read: impl Fn(&At<'_>, &str, &mut Notes<'_>) -> Result<T, Unread>,
) -> Result<Vec<T>, Unread> {
    let list = at.get(name);
    let mut items = Ok(Vec::new());
    for element in elements_of(list.as_ref(), notes)? {
        let item = element.string(notes).and_then(|text| read(&element, text, notes));
        collect(&mut items, item);
    }
    items
}

fn cluster_id(at: &At<'_>, notes: &mut Notes<'_>) -> Result<ClusterId, Unread> {
    at.string(notes)?.parse().map_err(|why| notes.unreadable(at, why))
}

fn constant(at: &At<'_>, wanted: &str, notes: &mut Notes<'_>) -> Result<(), Unread> {
    one_of(at, &[(wanted, ())], notes)
}

fn one_of<T: Copy>(at: &At<'_>, values: &[(&str, T)], notes: &mut Notes<'_>) -> Result<T, Unread> {
    let text = at.string(notes)?;
    let found = values.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let names: Vec<_> = values.iter().map(|(name, _)| *name).collect();
        notes.unreadable(at, format_args!("{text:?} is not {}", names.join(" or ")))
    })
}

/// Durations as Go writes them, in whole units: `90s`, `1h30m`.
fn duration(at: &At<'_>, notes: &mut Notes<'_>) -> Result<Duration, Unread> {
    let text = at.string(notes)?;
    let parse = || {
        let (mut rest, mut sum) = (text, Duration::ZERO);
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let number: u64 = rest[..digits].parse().ok()?;
            let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
            let part = match &rest[digits..unit] {
                "h" => Duration::from_secs(number.checked_mul(3600)?),
                "m" => Duration::from_secs(number.checked_mul(60)?),
                "s" => Duration::from_secs(number),
                "ms" => Duration::from_millis(number),
                _ => return None,
            };
            sum = sum.checked_add(part)?;
            rest = &rest[unit..];
        }
        (!sum.is_zero()).then_some(sum)
    };
    parse().ok_or_else(|| notes.unreadable(at, format_args!("{text:?} is no duration, as 90s or 1h30m")))
}

fn warn_of_overlaps(members: &[MemberEntry], places: &[At<'_>], notes: &mut Notes<'_>) {
    for (at, (entry, place)) in members.iter().zip(places).enumerate() {
        let member = &entry.member;
        if member.pod_cidrs.is_empty() {
            let message = format_args!(
                "member {} has no podCIDRs: it may claim every address that lies in no other member's",
                member.id
            );
            notes.warn(IssueCode::MissingPodCidrs, &place.member("podCIDRs"), message);
        }
        for other in members[..at].iter().map(|entry| &entry.member) {
            let pairs = member.pod_cidrs.iter().flat_map(|mine| other.pod_cidrs.iter().map(move |its| (mine, its)));
            for (mine, its) in pairs.filter(|(mine, its)| mine.contains(*its) || its.contains(*mine)) {
                let message = format_args!("{mine} of member {} overlaps {its} of member {}", member.id, other.id);
                notes.warn(IssueCode::OverlappingPodCidrs, &place.member("podCIDRs"), message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Loaded, ClusterSetError> {
        ClusterSet::parse(text.as_bytes(), Path::new("/etc/sets/demo.yaml"))
    }

    fn set(spec: &str) -> String {
        format!("apiVersion: crosswall.dev/v1alpha1\nkind: ClusterSet\nmetadata: {{name: demo}}\nspec: {spec}\n")
    }

    /// A set whose only member has these fields beside a source and podCIDRs.
    fn member(fields: &str) -> String {
        set(&format!("{{members: [{{{fields}, source: {{directory: {{path: a}}}}, podCIDRs: [10.0.0.0/8]}}]}}"))
    }

    fn id(text: &str) -> ClusterId {
        text.parse().unwrap()
    }

    fn places(issues: &[Issue]) -> Vec<(IssueCode, &str)> {
        issues.iter().map(|issue| (issue.code, issue.field.as_str())).collect()
    }

    #[test]
    fn a_file_is_read_whole() {
        let text = set("
  local: cluster-a
  defaultPeerScope: ClusterSet
  clusterLabels: Explicit
  members:
  - id: cluster-a
    source: {directory: {path: cluster-a}}
    podCIDRs: [10.1.0.0/16, 'fd00:1::/48']
    labels: {region: eu-west}
  - id: eu.b
    source: {directory: {path: /abs/b}, kubeconfig: null}
    podCIDRs: [10.2.0.0/16]
    staleAfter: 1h30m
    trustedProperties: [region]
");
        let (a, b) = (id("cluster-a"), id("eu.b"));
        let members = vec![
            MemberEntry {
                member: Member {
                    id: a.clone(),
                    pod_cidrs: vec!["10.1.0.0/16".parse().unwrap(), "fd00:1::/48".parse().unwrap()],
                    labels: Labels::from_iter([("region".into(), "eu-west".into())]),
                },
                source: Source::Directory("/etc/sets/cluster-a".into()),
                stale_after: None,
                trusted_properties: vec![],
            },
            MemberEntry {
                member: Member { id: b, pod_cidrs: vec!["10.2.0.0/16".parse().unwrap()], labels: Labels::new() },
                source: Source::Directory("/abs/b".into()),
                stale_after: Some(Duration::from_secs(5400)),
                trusted_properties: vec!["region".into()],
            },
        ];
        let config = ClusterConfig {
            local: a.clone(),
            default_scope: Scope::ClusterSet,
            cluster_labels: ClusterLabels::Explicit,
            members: members.iter().map(|entry| entry.member.clone()).collect(),
        };
        let cluster_set = ClusterSet {
            local: Some(a.clone()),
            default_scope: Scope::ClusterSet,
            cluster_labels: ClusterLabels::Explicit,
            members,
        };
        assert_eq!(cluster_set.config(&a), config);
        assert_eq!(parse(&text), Ok(Loaded { cluster_set, issues: vec![] }));
    }

    #[test]
    fn api_servers_are_reached_in_cluster_by_a_kubeconfig_or_as_a_profile_says() {
        let source = |text: &str| {
            let set = set(&format!("{{local: a, members: [{{id: a, source: {text}, podCIDRs: [10.0.0.0/8]}}]}}"));
            parse(&set).unwrap().cluster_set
        };
        let file = Here::File("/etc/sets/x".into());
        let secret = |key: &str| KubeconfigSecret {
            object: ObjectName { namespace: "s".to_owned(), name: "n".to_owned() },
            key: key.to_owned(),
        };
        for (text, access) in [
            ("{inCluster: {}}", Access::Here(Here::InCluster)),
            ("{kubeconfig: {path: x}}", Access::Here(file.clone())),
            ("{kubeconfig: {secretRef: {namespace: s, name: n}}}", Access::Secret(secret("kubeconfig"))),
            ("{kubeconfig: {secretRef: {namespace: s, name: n, key: value}}}", Access::Secret(secret("value"))),
            ("{clusterProfile: {namespace: s, name: n}}", Access::Profile(secret("").object)),
        ] {
            assert_eq!(source(text).members[0].source, Source::Kube(access), "{text}");
        }
        assert_eq!(source("{kubeconfig: {path: x}}").local_access(), Some(&file));
        assert_eq!(source("{directory: {path: x}}").local_access(), None);
    }

    #[test]
    fn scope_and_label_mode_have_defaults_and_local_may_be_absent() {
        let ClusterSet { local, default_scope, cluster_labels, .. } = parse(&member("id: a")).unwrap().cluster_set;
        assert_eq!((local, default_scope, cluster_labels), (None, Scope::Local, ClusterLabels::Implicit));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_with_its_path() {
        let directory = "source: {directory: {path: a}}, podCIDRs: [10.0.0.0/8]";
        let table = [
            ("", "5".to_owned()),
            ("", String::new()),
            ("", member("id: a") + "---\n{a: b}\n"),
            ("", "kind: [".to_owned()),
            ("kind", "{}".to_owned()),
            ("kind", "{apiVersion: crosswall.dev/v1alpha1, kind: ConfigMap}".to_owned()),
            ("apiVersion", "{apiVersion: crosswall.dev/v1, kind: ClusterSet}".to_owned()),
            ("spec", "{apiVersion: crosswall.dev/v1alpha1, kind: ClusterSet}".to_owned()),
            ("status", member("id: a") + "status: {}\n"),
            ("spec.members", set("{}")),
            ("spec.members", set("{members: []}")),
            ("spec.members", set("{members: {a: b}}")),
            ("spec.members[0]", set("{members: [a]}")),
            ("spec.defaultScope", set(&format!("{{defaultScope: Local, members: [{{id: a, {directory}}}]}}"))),
            ("spec.defaultPeerScope", set(&format!("{{defaultPeerScope: local, members: [{{id: a, {directory}}}]}}"))),
            ("spec.clusterLabels", set(&format!("{{clusterLabels: true, members: [{{id: a, {directory}}}]}}"))),
            ("spec.local", set(&format!("{{local: b, members: [{{id: a, {directory}}}]}}"))),
            ("spec.local", set(&format!("{{local: A_B, members: [{{id: a, {directory}}}]}}"))),
            ("spec.members[1].id", set(&format!("{{members: [{{id: a, {directory}}}, {{id: a, {directory}}}]}}"))),
            ("spec.members[0].id", set(&format!("{{members: [{{{directory}}}]}}"))),
            ("spec.members[0].id", member("id: a.b.c")),
            ("spec.members[0].id", member("id: 5")),
            ("spec.members[0].podCidrs", member("id: a, podCidrs: []")),
            ("spec.members[0].labels", member("id: a, labels: [x]")),
            ("spec.members[0].labels.x", member("id: a, labels: {x: 5}")),
            ("spec.members[0].staleAfter", member("id: a, staleAfter: 5")),
            ("spec.members[0].staleAfter", member("id: a, staleAfter: 5 minutes")),
            ("spec.members[0].staleAfter", member("id: a, staleAfter: ''")),
            ("spec.members[0].source", set("{members: [{id: a, podCIDRs: [10.0.0.0/8]}]}")),
            ("spec.members[0].source", set("{members: [{id: a, source: {}, podCIDRs: [10.0.0.0/8]}]}")),
            ("spec.members[0].source.dir", set("{members: [{id: a, source: {dir: x}}]}")),
            ("spec.members[0].source.foo", set("{members: [{id: a, source: {directory: {path: a}, foo: 1}}]}")),
            ("spec.members[0].source", set("{members: [{id: a, source: {directory: {path: a}, etcd: {x: y}}}]}")),
            ("foo", member("id: a") + "foo:\n"),
            ("metadata.foo", member("id: a").replace("{name: demo}", "{foo: null}")),
            ("spec.foo", set(&format!("{{foo: null, members: [{{id: a, {directory}}}]}}"))),
            ("spec.members[0].foo", member("id: a, foo: null")),
            ("spec.members[0].source.foo", set("{members: [{id: a, source: {directory: {path: a}, foo: null}}]}")),
            (
                "spec.members[0].source.directory.foo",
                set("{members: [{id: a, source: {directory: {path: a, foo: null}}}]}"),
            ),
            ("spec.members[0].source.directory.path", set("{members: [{id: a, source: {directory: {}}}]}")),
            ("spec.members[0].source.directory.path", set("{members: [{id: a, source: {directory: {path: ''}}}]}")),
            ("spec.members[0].source.directory.x", set("{members: [{id: a, source: {directory: {path: a, x: 1}}}]}")),
            ("spec.members[0].podCIDRs[0]", set("{members: [{id: a, source: {directory: {path: a}}, podCIDRs: [x]}]}")),
            ("spec.members[0].source.kubeconfig", set("{members: [{id: a, source: {kubeconfig: {}}}]}")),
            (
                "spec.members[0].source.kubeconfig",
                set("{members: [{id: a, source: {kubeconfig: {path: a, secretRef: {name: n, namespace: s}}}}]}"),
            ),
            (
                "spec.members[0].source.kubeconfig.secretRef.namespace",
                set("{members: [{id: a, source: {kubeconfig: {secretRef: {name: n}}}}]}"),
            ),
            (
                "spec.members[0].source.clusterProfile.namespace",
                set("{members: [{id: a, source: {clusterProfile: {name: n}}}]}"),
            ),
            (
                "spec.members[0].source.clusterProfile.name",
                set("{members: [{id: a, source: {clusterProfile: {namespace: s, name: ''}}}]}"),
            ),
            (
                "spec.members[0].source.clusterProfile.key",
                set("{members: [{id: a, source: {clusterProfile: {namespace: s, name: n, key: k}}}]}"),
            ),
            ("spec.members[0].source.inCluster.x", set("{members: [{id: a, source: {inCluster: {x: 1}}}]}")),
            ("spec.members[0].podCIDRs", set("{members: [{id: a, source: {directory: {path: a}}, podCIDRs: x}]}")),
        ];
        for (field, text) in table {
            let error = parse(&text).unwrap_err();
            assert_eq!(places(&error.issues), [(IssueCode::UnreadableClusterSet, field)], "{text}");
        }
    }

    #[test]
    fn a_source_of_a_later_version_is_named_as_such() {
        let error = parse(&set("{members: [{id: a, source: {etcd: {x: y}}}]}")).unwrap_err();
        let expect = "/etc/sets/demo.yaml: spec.members[0].source.etcd: \
                      source etcd of member a is not supported by this version; use kubeconfig";
        assert_eq!(error.to_string(), expect);
    }

    #[test]
    fn overlapping_and_absent_ranges_are_warnings() {
        let loaded = parse(&set("
  members:
  - {id: a, source: {directory: {path: a}}, podCIDRs: [10.0.0.0/8, 10.3.0.0/16]}
  - {id: b, source: {directory: {path: b}}, podCIDRs: [10.1.2.3/16, 11.0.0.0/8]}
  - {id: c, source: {directory: {path: c}}}
"))
        .unwrap();
        let expect = [
            (IssueCode::MaskedHostBits, "spec.members[1].podCIDRs[0]"),
            (IssueCode::OverlappingPodCidrs, "spec.members[1].podCIDRs"),
            (IssueCode::MissingPodCidrs, "spec.members[2].podCIDRs"),
        ];
        assert_eq!(places(&loaded.issues), expect);
        assert_eq!(loaded.issues[1].message, "10.1.0.0/16 of member b overlaps 10.0.0.0/8 of member a");
        assert!(loaded.issues.iter().all(|issue| issue.level == Level::Warning));
    }

    #[test]
    fn a_local_cluster_that_would_grow_stale_is_a_warning() {
        let members = |id: &str| {
            format!(
                "[{{id: a, source: {{directory: {{path: a}}}}, podCIDRs: [10.1.0.0/16]}}, \
            {{id: {id}, staleAfter: 1h, source: {{directory: {{path: b}}}}, podCIDRs: [10.2.0.0/16]}}]"
            )
        };
        let loaded = parse(&set(&format!("{{local: b, members: {}}}", members("b")))).unwrap();
        assert_eq!(places(&loaded.issues), [(IssueCode::IneffectiveField, "spec.members[1].staleAfter")]);
        assert_eq!(loaded.issues[0].level, Level::Warning);
        let loaded = parse(&set(&format!("{{local: a, members: {}}}", members("b")))).unwrap();
        assert_eq!(loaded.issues, []);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = ClusterSet::load(Path::new("/nowhere/set.yaml")).unwrap_err();
        assert_eq!(error.to_string(), "/nowhere/set.yaml: cannot be read: No such file or directory (os error 2)");
    }
}
