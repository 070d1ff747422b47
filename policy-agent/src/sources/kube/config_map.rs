//! A ClusterSet in a ConfigMap: its content is kept in a file of the agent's state, which is read and watched as any
//! ClusterSet file is. So an agent that starts while the API server is away has the last ClusterSet that it saw.

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use policy_core::model::{Issue, IssueCode, Level};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::access::Here;
use super::object::{ObjectName, Seen, follow_object};

/// After so long it is tried again to write what could not be written.
const RETRY: Duration = Duration::from_secs(5);
/// The key of the ConfigMap, if no other is named.
const DEFAULT_KEY: &str = "clusterset.yaml";

/// A ConfigMap that holds a ClusterSet: `NAMESPACE/NAME`, or `NAMESPACE/NAME/KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSetMap {
    /// Which ConfigMap.
    pub object: ObjectName,
    /// The key of its data.
    pub key: String,
}

impl FromStr for ClusterSetMap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let (namespace, name, key) = match parts.as_slice() {
            [namespace, name] => (namespace, name, &DEFAULT_KEY),
            [namespace, name, key] => (namespace, name, key),
            _ => return Err(format!("{text:?} is not NAMESPACE/NAME or NAMESPACE/NAME/KEY")),
        };
        if [namespace, name, key].iter().any(|part| part.is_empty()) {
            return Err(format!("{text:?} is not NAMESPACE/NAME or NAMESPACE/NAME/KEY"));
        }
        let object = ObjectName { namespace: (*namespace).to_owned(), name: (*name).to_owned() };
        Ok(Self { object, key: (*key).to_owned() })
    }
}

impl fmt::Display for ClusterSetMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigMap {}, key {}", self.object, self.key)
    }
}

/// A file that says what a ConfigMap says, as long as this is followed.
#[derive(Debug)]
pub struct Mirror {
    map: ClusterSetMap,
    file: PathBuf,
    seen: mpsc::Receiver<Seen<ConfigMap>>,
    content: Option<String>,
    /// What could not be written, and when that is tried again.
    unwritten: Option<(String, Instant)>,
}

impl Mirror {
    /// Begins to follow a ConfigMap, whose content is written to `file`.
    pub fn start(map: ClusterSetMap, access: Here, file: PathBuf) -> Self {
        let (sender, seen) = mpsc::channel(1);
        tokio::spawn(follow_object(map.object.clone(), access, sender));
        Self { map, file, seen, content: None, unwritten: None }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Waits until the ConfigMap has changed or cannot be followed; the file says by then what it says. Returns what is
    /// wrong, `None` if it can no longer be followed at all. Loses nothing when it is dropped.
    pub async fn next(&mut self) -> Option<Vec<Issue>> {
        let problem = match self.seen_or_due().await? {
            Some(Seen::There(map)) => match map.data.unwrap_or_default().remove(&self.map.key) {
                Some(content) => self.take(content),
                None => Some("has no such key".to_owned()),
            },
            Some(Seen::Absent) => Some("is not there".to_owned()),
            Some(Seen::Unknown(trouble)) => Some(format!("cannot be followed: {trouble}{}", trouble.advice(None))),
            None => match self.unwritten.take() {
                Some((content, _)) => self.take(content),
                None => None,
            },
        };
        Some(problem.into_iter().map(|problem| self.issue(&problem)).collect())
    }

    /// What is seen next; `Some(None)`: it is time to write what could not be written.
    async fn seen_or_due(&mut self) -> Option<Option<Seen<ConfigMap>>> {
        let Some((_, due)) = self.unwritten else { return self.seen.recv().await.map(Some) };
        tokio::select! {
            seen = self.seen.recv() => seen.map(Some),
            () = sleep_until(due) => Some(None),
        }
    }

    fn issue(&self, problem: &str) -> Issue {
        Issue {
            code: IssueCode::UnreadableClusterSet,
            level: Level::Error,
            object: self.map.to_string(),
            field: String::new(),
            message: format!("{problem}; the last ClusterSet that was seen, if there was one, stays in force"),
        }
    }

    /// Writes a content, if that is another one; what keeps it from being written.
    fn take(&mut self, content: String) -> Option<String> {
        self.unwritten = None;
        if self.content.as_ref() == Some(&content) {
            return None;
        }
        match write_whole(&self.file, content.as_bytes()) {
            Ok(()) => {
                self.content = Some(content);
                None
            }
            Err(error) => {
                self.unwritten = Some((content, Instant::now() + RETRY));
                Some(format!("cannot be kept in {}: {error}; make room there", self.file.display()))
            }
        }
    }
}

/// Replaces a file's content as one step. It is small, and lies on the node's own disk.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_map_is_named_by_namespace_name_and_key() {
        let parse = |text: &str| text.parse::<ClusterSetMap>().map(|map| map.to_string());
        assert_eq!(parse("s/n").as_deref(), Ok("ConfigMap s/n, key clusterset.yaml"));
        assert_eq!(parse("s/n/k").as_deref(), Ok("ConfigMap s/n, key k"));
        for wrong in ["", "n", "s/", "/n", "s/n/", "s/n/k/x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_written_is_written_once_there_is_room() {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("later/set.yaml");
        let map = "s/n".parse::<ClusterSetMap>().expect("a name");
        let (told, seen) = mpsc::channel(1);
        let mut mirror = Mirror { map, file: file.clone(), seen, content: None, unwritten: None };
        let data = Some([("clusterset.yaml".to_owned(), "x".to_owned())].into());
        told.send(Seen::There(ConfigMap { data, ..ConfigMap::default() })).await.expect("somebody listens");
        for _ in 0..2 {
            let issues = mirror.next().await.expect("it is followed");
            assert!(issues[0].message.contains("make room there"), "{issues:?}");
        }
        std::fs::create_dir(folder.path().join("later")).expect("made");
        assert_eq!(mirror.next().await, Some(Vec::new()));
        assert_eq!(std::fs::read_to_string(file).expect("written"), "x");
        assert!(mirror.unwritten.is_none());
    }
}
