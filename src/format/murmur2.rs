//! Kafka's murmur2, by which its clients place keys on partitions.

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;

/// The hash of a key, as Kafka's Java client computes it.
pub fn hash(key: &[u8]) -> u32 {
    // The length enters as a signed 32 bit number there; keys are shorter than 2 GiB.
    let mut h = SEED ^ key.len() as u32;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ k;
    }
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^ (h >> 15)
}

/// The partition of a key among `partitions`; 0 where there are none.
pub fn partition(key: &[u8], partitions: i32) -> i32 {
    if partitions <= 0 {
        return 0;
    }
    (hash(key) & 0x7fff_ffff) as i32 % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_java_client() {
        let known: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, expected) in known {
            assert_eq!(hash(key.as_bytes()) as i32, expected, "{key}");
        }
    }

    #[test]
    fn partitions_are_positive_and_below_their_number() {
        // (-973932308 & 0x7fffffff) = 1173551340
        assert_eq!(partition(b"21", 6), 1_173_551_340 % 6);
        assert_eq!(partition(b"21", 1), 0);
        assert_eq!(partition(b"", 0), 0);
        for n in 1..20 {
            assert!((0..n).contains(&partition(b"foobar", n)));
        }
    }
}
