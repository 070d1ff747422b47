//! What this machine lets us do.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    process::{Command, Stdio},
};

/// Whether this process is root: the owner of its own directory in /proc is its effective user.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// The running kernel's major and minor version.
pub fn kernel() -> Option<(u32, u32)> {
    version_of(&fs::read_to_string("/proc/sys/kernel/osrelease").ok()?)
}

/// Why programs cannot be loaded into this machine's kernel.
pub fn no_ebpf() -> Option<String> {
    if !is_root() {
        return Some("needs root (loads programs into the kernel)".to_owned());
    }
    let probe = Command::new("bpftool").args(["prog", "show"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match probe {
        Ok(status) if status.success() => None,
        Ok(_) => Some("needs a kernel that lets us use bpf(2)".to_owned()),
        Err(_) => Some("needs bpftool (`cargo xtask setup` installs it on Debian and Ubuntu)".to_owned()),
    }
}

/// How much memory a process can have before the kernel has none.
pub fn available_memory_mib() -> Option<u64> {
    let memory = fs::read_to_string("/proc/meminfo").ok()?;
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? / 1024)
}

fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(['.', '-', '+']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_any_distribution_s_release() {
        let releases = ["6.18.3\n", "6.6-rc1", "6.1.0-38-amd64", "5.15+local", "strange"];
        let expected = [Some((6, 18)), Some((6, 6)), Some((6, 1)), Some((5, 15)), None];
        assert_eq!(releases.map(version_of), expected);
    }
}
