//! Names as controllers and people give them: `checkout-6f7c9d8b5-x2x4z`.

/// The applications of a namespace: one Deployment each.
pub const APPS: [&str; 20] = [
    "checkout",
    "cart",
    "catalog",
    "payments",
    "orders",
    "inventory",
    "search",
    "frontend",
    "gateway",
    "auth",
    "billing",
    "shipping",
    "notifications",
    "reviews",
    "recommendation",
    "pricing",
    "accounts",
    "ledger",
    "reporting",
    "dns",
];

/// The owners of namespaces.
pub const TEAMS: [&str; 10] =
    ["shop", "identity", "logistics", "marketing", "data", "platform", "finance", "support", "mobile", "partners"];

/// What a team has namespaces for.
pub const STAGES: [&str; 5] = ["", "-batch", "-edge", "-staging", "-tools"];

/// The letters of names that Kubernetes generates (`k8s.io/apimachinery/pkg/util/rand`).
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A number that looks like chance, from what it stands for (SplitMix64).
pub fn mixed(seeds: [u32; 3]) -> u64 {
    seeds.into_iter().fold(0x9e37_79b9_7f4a_7c15, |state: u64, seed| {
        let mut z = state.wrapping_add(u64::from(seed).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// So many letters of a generated name.
pub fn letters(mut random: u64, count: usize) -> String {
    let letter = |_| {
        let letter = SAFE[(random % 27) as usize];
        random /= 27;
        char::from(letter)
    };
    (0..count).map(letter).collect()
}

/// A UUID of version 4.
pub fn uuid(high: u64, low: u64) -> String {
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}
