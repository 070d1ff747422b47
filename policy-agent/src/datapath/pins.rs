//! Where maps, programs and links are pinned, and whether what an earlier run left there can be used again.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Metadata, TryLockError};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use aya::maps::MapInfo;
use policy_common::table::ABI_VERSION;

use super::capacities::Capacities;
use super::error::{DatapathError, Misfit};
use super::sys::{self, ControlPage};
use crate::ownership::exposure;

/// The directory of all pins, below the BPF file system.
const DIRECTORY: &str = "crosswall";
/// The directory of links, below that.
const LINKS: &str = "links";
/// The directory of programs, below that.
const PROGRAMS: &str = "programs";

/// Where everything is pinned.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    root: PathBuf,
}

/// A map as the embedded object has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

/// What an earlier run left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leftovers {
    /// Nothing that counts.
    None,
    /// All maps, as this version needs them.
    Usable,
}

impl Pins {
    /// Below the BPF file system at `bpffs`, which must be one: elsewhere pins cannot be, and in a private mount they
    /// would vanish with the process, and the programs with them. So it is not mounted here.
    pub(super) fn below(bpffs: &Path) -> Result<Self, DatapathError> {
        match sys::is_bpffs(bpffs) {
            Ok(true) => Ok(Self { root: bpffs.join(DIRECTORY) }),
            Ok(false) => Err(DatapathError::NoBpffs { path: bpffs.to_owned() }),
            Err(source) => Err(DatapathError::Bpffs { path: bpffs.to_owned(), source }),
        }
    }

    /// Takes the directory of everything, which must exist, for as long as the handle lives: two agents on the same
    /// tables would undo what the other writes. `None`: it does not exist.
    pub(super) fn lock(&self) -> Result<Option<File>, DatapathError> {
        let failed = |operation| move |source| DatapathError::Pin { operation, path: self.root.clone(), source };
        loop {
            let directory = match File::open(&self.root) {
                Ok(directory) => directory,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(failed("open")(error)),
            };
            match directory.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(DatapathError::Held { path: self.root.clone() }),
                Err(TryLockError::Error(error)) => return Err(failed("lock")(error)),
            }
            let id = |metadata: Metadata| (metadata.dev(), metadata.ino());
            let locked = directory.metadata().map(id).map_err(failed("look at"))?;
            // Whoever held it before may have removed it.
            if fs::metadata(&self.root).map(id).is_ok_and(|there| there == locked) {
                return Ok(Some(directory));
            }
        }
    }

    /// The directory of everything.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of links.
    pub(super) fn links(&self) -> PathBuf {
        self.root.join(LINKS)
    }

    /// The directory of programs.
    pub(super) fn programs(&self) -> PathBuf {
        self.root.join(PROGRAMS)
    }

    /// The pin of a map.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Opens a pinned map.
    pub(super) fn open_map(&self, name: &'static str) -> Result<OwnedFd, DatapathError> {
        sys::open_pin(&self.map(name)).map_err(|source| {
            DatapathError::unless_forbidden(source, format!("open table {name}"), |source| DatapathError::Table {
                operation: "open".to_owned(),
                table: name,
                source,
            })
        })
    }

    /// Makes the directory of everything.
    pub(super) fn make_root(&self) -> Result<(), DatapathError> {
        make_directory(self.root.clone())
    }

    /// Makes the directories below it.
    pub(super) fn make_directories(&self) -> Result<(), DatapathError> {
        make_directory(self.links())?;
        make_directory(self.programs())
    }

    /// Looks at what is pinned; removes the beginnings of a first run that was cut off.
    pub(super) fn examine(&self, shapes: &BTreeMap<String, Shape>) -> Result<Leftovers, DatapathError> {
        if self.abi()? == 0 {
            // `control` says its version last of all, so nobody was ever judged by these.
            for name in shapes.keys() {
                self.remove_map(name)?;
            }
            return Ok(Leftovers::None);
        }
        for (name, shape) in shapes {
            let path = self.map(name);
            if let Some(misfit) = shape.misfit(&path)? {
                return Err(DatapathError::Misfit { path, misfit });
            }
        }
        Ok(Leftovers::Usable)
    }

    /// The version that the pinned tables were made by; 0 if there are none, or none complete.
    fn abi(&self) -> Result<u32, DatapathError> {
        let path = self.map("control");
        if !is_there(&path)? {
            return Ok(0);
        }
        let control = self.open_map("control")?;
        let failed = |source| DatapathError::Table { operation: "map".to_owned(), table: "control", source };
        let found = ControlPage::map(control.as_fd()).map_err(failed)?.abi();
        if found != 0 && found != ABI_VERSION {
            return Err(DatapathError::Abi { path: self.root.clone(), found, needed: ABI_VERSION });
        }
        Ok(found)
    }

    /// Removes the pin of a map, if there is one.
    pub(super) fn remove_map(&self, name: &str) -> Result<(), DatapathError> {
        remove_pin(&self.map(name)).map(drop)
    }
}

/// Makes a directory for its owner alone; one that is there must be so that nobody else can put programs in it.
fn make_directory(path: PathBuf) -> Result<(), DatapathError> {
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            let operation = format!("make the directory {}", path.display());
            return Err(DatapathError::unless_forbidden(error, operation, |source| DatapathError::Pin {
                operation: "make the directory",
                path,
                source,
            }));
        }
        _ => {}
    }
    match fs::symlink_metadata(&path).and_then(|metadata| exposure(&metadata)) {
        Ok(None) => Ok(()),
        Ok(Some(exposure)) => Err(DatapathError::Exposed { path, exposure }),
        Err(source) => Err(DatapathError::Pin { operation: "look at", path, source }),
    }
}

/// Whether there is a pin. Where that cannot be told there may be one: what is pinned is the last good state.
fn is_there(path: &Path) -> Result<bool, DatapathError> {
    path.try_exists().map_err(|source| DatapathError::Pin { operation: "look at", path: path.to_owned(), source })
}

/// Removes a pin; returns whether there was one.
pub(super) fn remove_pin(path: &Path) -> Result<bool, DatapathError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(DatapathError::Pin { operation: "remove", path: path.to_owned(), source }),
    }
}

/// Removes a pin; what is a link is taken off its interface, even if a running agent holds it.
pub(super) fn take_off(path: &Path) -> Result<bool, DatapathError> {
    if let Ok(object) = sys::open_pin(path)
        && let Ok(Some(leads)) = sys::tcx_link(object.as_fd())
        && leads.ifindex != 0
    {
        // Without its pin it goes off as well; this only is sooner.
        let _goes_with_the_pin = sys::detach_link(object.as_fd());
    }
    remove_pin(path)
}

impl Shape {
    /// The maps of an object, with these capacities.
    pub(super) fn of_object(object: &[u8], capacities: &Capacities) -> Result<BTreeMap<String, Self>, DatapathError> {
        let object = aya_obj::Object::parse(object).map_err(|error| DatapathError::Object { source: error.into() })?;
        let capacities: BTreeMap<_, _> = capacities.by_map().into_iter().collect();
        let shape = |(name, map): (String, aya_obj::Map)| {
            let max_entries = capacities.get(name.as_str()).copied().unwrap_or(map.max_entries());
            let shape = Self {
                map_type: map.map_type(),
                key_size: map.key_size(),
                value_size: map.value_size(),
                max_entries,
                flags: map.map_flags(),
            };
            (name, shape)
        };
        Ok(object.maps.into_iter().map(shape).collect())
    }

    /// How many elements it has room for.
    pub(super) fn max_entries(&self) -> u32 {
        self.max_entries
    }

    /// Why the map pinned at a path is not this one.
    fn misfit(&self, path: &Path) -> Result<Option<Misfit>, DatapathError> {
        if !is_there(path)? {
            return Ok(Some(Misfit::Missing));
        }
        let info = MapInfo::from_pin(path).map_err(|error| DatapathError::Pin {
            operation: "look at the table pinned at",
            path: path.to_owned(),
            source: io::Error::other(error),
        })?;
        let Ok(map_type) = info.map_type() else { return Ok(Some(Misfit::Shape)) };
        let found = Self {
            map_type: map_type as u32,
            key_size: info.key_size(),
            value_size: info.value_size(),
            max_entries: self.max_entries,
            flags: info.map_flags(),
        };
        if found != *self {
            return Ok(Some(Misfit::Shape));
        }
        let (found, needed) = (info.max_entries(), self.max_entries);
        Ok((found != needed).then_some(Misfit::Capacity { found, needed }))
    }
}
