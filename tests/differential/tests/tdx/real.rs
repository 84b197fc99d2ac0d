//! Real quotes with real collateral.

use differential::evidence::{cases, folder};
use differential::peers::{QUOTE_VERIFIER, WHOLE_VERIFIER};
use differential::{Row, Table};

use crate::rules::{ALONE, POLICY, PROFILE};
use crate::{compare, finish};

pub const ROWS: &[Row] = &[
    Row::refused(
        QUOTE_VERIFIER,
        "tdx-certificate-not-yet-valid",
        PROFILE,
        &[
            "v4-cdai-azure-live-90c06f.quote.bin 90c06f000000-20250605-eval17",
            "v4-dstack-guestagent-b0c06f.quote.bin b0c06f000000-20250619-eval17",
            "v4-dstack-report-90c06f.quote.bin 90c06f000000-20250605-eval17",
            "v4-flashbots-gcp-00806f.quote.bin 00806f050000-20250121-eval17",
            "v4-flashbots-gcp-00806f.quote.bin 00806f050000-20251019-eval17",
            "v4-secretvm-docker-b0c06f.quote.bin b0c06f000000-20250619-eval17",
        ],
    ),
    Row::refused(
        QUOTE_VERIFIER,
        "tdx-tcb-not-supported",
        ALONE,
        &[
            "v4-dcapqvl-hex-b0c06f.quote.bin b0c06f000000-20250619-eval17",
            "v4-dcapqvl-hex-b0c06f.quote.bin b0c06f000000-20261008-eval20",
            "v4-google-SPR-E4-50806f.quote.bin 50806f000000-20230618-eval15",
            "v4-google-SPR-E4-50806f.quote.bin 50806f000000-20260316-eval18",
            "v4-tappd-b0c06f.quote.bin b0c06f000000-20250619-eval17",
            "v4-tappd-b0c06f.quote.bin b0c06f000000-20261008-eval20",
        ],
    ),
    Row::accepted(
        WHOLE_VERIFIER,
        "SEPT_VE_DISABLE is not enabled",
        POLICY,
        &[
            "v4-intel-ita-azure-00806f.quote.bin 00806f050000-20250121-eval17",
            "v4-intel-ita-azure-00806f.quote.bin 00806f050000-20251019-eval17",
            "v4-intel-ita-azure-00806f.quote.bin 00806f050000-20260630-eval19",
            "v4-openenclave-50806f.quote.bin 50806f000000-20230618-eval15",
            "v4-openenclave-50806f.quote.bin 50806f000000-20260316-eval18",
            "v4-trustee-azure-00806f.quote.bin 00806f050000-20250121-eval17",
            "v4-trustee-azure-00806f.quote.bin 00806f050000-20251019-eval17",
            "v4-trustee-azure-00806f.quote.bin 00806f050000-20260630-eval19",
            "v4-zkdcap-azure-00806f.quote.bin 00806f050000-20250121-eval17",
            "v4-zkdcap-azure-00806f.quote.bin 00806f050000-20251019-eval17",
            "v4-zkdcap-azure-00806f.quote.bin 00806f050000-20260630-eval19",
        ],
    ),
];

#[test]
fn verdicts_on_real_quotes_differ_only_as_listed() {
    let Some(folder) = folder() else { return };
    let mut table = Table::new(ROWS);
    let cases = cases(&folder);
    assert_eq!(cases.len(), 63, "rows of tdx-verdicts.csv");
    for case in cases {
        compare(&mut table, &case);
    }
    finish(&table);
}
