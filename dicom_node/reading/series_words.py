"""What the words in a series' name say: its weighting, contrast agent, and what is no plain head at all.

Patterns are searched in lower-cased text whose punctuation other than + - / * has become blanks.
"""

import re
from typing import Final

from dicom_node.reading.series_rules import SeriesRole


def words(*alternatives: str) -> re.Pattern[str]:
    """Match one of the alternatives as a whole word (digits and letters to either side end the match)."""
    return re.compile(r"(?<![^\W_])(?:" + "|".join(alternatives) + r")(?![^\W_])")


LOCALIZER: Final = "a localizer or calibration"
PERFUSION: Final = "perfusion"
REFORMATTED: Final = "reformatted from another series"

EXCLUDED_TEXT: Final = (
    (
        LOCALIZER,
        words(
            "(?:auto)?loc(?:ali[sz]\\w*|aliser|alizador\\w*|ator)?",
            "scout\\w*|aahscout\\w*|survey|smartbrain|pilot|planscan|topogram\\w*|rep[eé]rage|übersicht",
            "(?:3|three)[- ]?(?:plane|pl)|calib\\w*|cal|ref(?:erence)? ?(?:scan|head)|coca|shim\\w*",
            "(?:b0|b1|field) ?map\\w*|gre ?field\\w*|локал\\w*|обзор\\w*",
        ),
    ),
    (LOCALIZER, re.compile("定位|位置決め|위치")),
    (
        "diffusion",
        words("dw|dwi\\w*|dti\\w*|diff\\w*|diffusi\\w*|[ed]?adc\\w*|trace\\w*|fa|b\\d{3,4}"),
    ),
    (PERFUSION, words("perf\\w*|dsc|dce|p?c?asl|r?cbv|r?cbf|ttp|mtt|twist\\w*|dyn\\w*")),
    ("diffusion or perfusion", re.compile("弥散|扩散|拡散|灌注|灌流|확산|관류|диффуз|перфуз")),
    (
        "susceptibility or spectroscopy",
        words("ep2d\\w*|bold|fmri|swi\\w*|swan|venbold|hemo|t2\\*\\w*|t2 ?star\\w*|mrs|csi|svs|spectro\\w*"),
    ),
    ("angiography or flow", words("tof\\w*|mra|mrv|angio\\w*|venc|veno\\w*|pc3?d?|qflow|inhance")),
    (REFORMATTED, words("mpr|mip|mnip|reformat\\w*|curved")),
    (
        "computed from other images",
        words("sub|subtr\\w*|synth\\w*|synthetic|magic|map|maps|phoenix\\w*|mosaic|average|fused?|report"),
    ),
    ("one of several images of an MP2RAGE", words("\\w*mp2rage\\w*")),
    ("a region or mask", words("roi\\w*|mask\\w*|seg\\w*|label\\w*|overlay")),
    (
        "not the brain",
        words(
            "(?:[ctl]-?)?spine|spinal|rachis|col(?:umna|onna)|[hbl]ws|cervical\\w*|lumbar\\w*|lumbal\\w*",
            "orbit\\w*|sella\\w*|pituit\\w*|hypophy\\w*|iac|iam|cai|felsenbein\\w*|neck|hals|tmj",
        ),
    ),
)
"""Reasons to leave a series out by its text, with the words that say so."""

SPOILED: Final = words(
    "motion(?! ?corr)\\w*|moved|moving|beweg\\w*|verwackelt|mouv\\w*|bouge\\w*|moviment\\w*|mosso",
    "artefa[ck]t\\w*|artifact\\w*|bad|abort\\w*|incompl\\w*|repeat ?needed|движ\\w*|артефакт\\w*",
)
"""Says that the technologist found the series spoiled."""

FAT_SATURATED: Final = words("fs|fatsat|fat ?sat\\w*|spir|spair|fatsup\\w*|fsat")

_AHEAD: Final = "(?:[sedvw]|[23]d|ax|axial|sag|cor|tra)*"
_TEXT_ROLES: Final = (
    (SeriesRole.OTHER, words("stir|turbo ?stir|dir|psir|ciss|fiesta\\w*|trufi\\w*|true ?fisp|b-?ffe|bssfp")),
    (SeriesRole.OTHER, words("pdw?|dp|protonen\\w*|proton ?dens\\w*|rho")),
    (
        SeriesRole.T1,
        words(
            f"{_AHEAD}t1(?!\\d)\\w*.*(?<![^\\W_])(?:\\w*flair|dark[- ]?fluid)",
            "flair[ -]?t1\\w*",
            "flair3?d?t1\\w*",
        ),
    ),
    (
        SeriesRole.FLAIR,
        words("\\w*flair\\w*", "dark[- ]?fluid", "da-?fl", "fluid ?att\\w*", f"{_AHEAD}t?2?tirm\\w*"),
    ),
    (SeriesRole.FLAIR, re.compile("压水|黑水|水抑制")),
    (
        SeriesRole.T1,
        words(
            f"{_AHEAD}t1(?!\\d)\\w*",
            "\\w*mp-?rage\\w*|bravo|f?spgr\\w*|e?thrive|tfe|vibe|flash|ir-?fspgr|lava",
        ),
    ),
    (SeriesRole.T2, words(f"{_AHEAD}t2(?!\\d)\\w*(?!\\*)")),
)
_DOUBLE_ECHO: Final = words(
    "(?:pd|dp|rho)w?[ /+-]*t2\\w*|t2\\w*[ /+-]*(?:pd|dp|rho)w?|dual ?echo|double ?echo"
)


def text_roles(text: str) -> frozenset[SeriesRole]:
    """Return the weightings that fit the text: none where it names none, two where a name stands for both.

    A double echo is proton density and T2, and Siemens calls both FLAIR and STIR "tirm": the times decide.
    """
    if _DOUBLE_ECHO.search(text):
        return frozenset({SeriesRole.OTHER, SeriesRole.T2})
    role = next((role for role, pattern in _TEXT_ROLES if pattern.search(text)), None)
    if role is None:
        return frozenset()
    if role is SeriesRole.FLAIR and "tirm" in text and "fluid" not in text:
        return frozenset({SeriesRole.FLAIR, SeriesRole.OTHER})
    return frozenset({role})


_NEUTRAL: Final = words(
    "(?:post|pre)[ -]?(?:op|surg|trauma|therap|treat|radi|rt|chemo|bio)\\w*",
    "posterior\\w*|postur\\w*|postpart\\w*|premature\\w*|press",
)
"""Before or after something else than contrast agent."""

_BOTH: Final = re.compile(r"\+/-|-/\+")

_NEXT: Final = "(?:[ -](?:d[aeiou]|del|du|the|of|l[ae]|il|el))?(?:[ -][^\\W_]+)?"
_WITHOUT_AGENT: Final = (
    words(
        f"(?:w/?o|without|no|non|ohne|sans|senza|sin|sem|utan|uten|uden|zonder|bez|без|ej|ilman|f[aă]r[aă]|χωρ[ιί]ς|nelkul|nélkül){_NEXT}",
        f"(?:before|vor|avant|antes|prima|f[öø]re?|przed|prije|pred|před|voor|ennen|до|перед|πριν){_NEXT}",
        f"(?:previo|abans|sense|enne|prieš|pirms|tanpa|sebelum|trước|không|[iî]nainte){_NEXT}",
        "[ck]ontr\\w* (?:öncesi|oncesi|önce|once|előtt|elott|ohne|vorher)|[ck]ontr\\w* ?: ?no\\w*",
        f"(?:pre|prä|pré)\\w*{_NEXT}",
        "(?:un|non)-?(?:enh|contr|kontr)\\w*",
        "nat[iï]v\\w*|natív\\w*|natiiv\\w*|натив\\w*|plain|diretta|basal(?! gangl)\\w*",
        "[ck]ontrasts[ıi]z\\w*|kontrastfrei\\w*|доконтр\\w*|преконтр\\w*",
        "s/ ?(?:c|k|gd|gado\\w*|[ck]ontr\\w*|mdc|iv)",
    ),
    re.compile(r"(?:^|\s|t1w?)-(?:c|k|km|gd|iv)(?![^\W_])"),
    re.compile(r"(?<![^\W_])(?:c|k|km|gd|iv)-(?=\s|$)"),
    re.compile("平扫|平掃|単純|單純|(?:造影|增强|增強|増強)前|非(?:造影|增强|增強)|조영 ?전|비조영"),
)
"""Says: no contrast agent. Each swallows the word behind it, which is often "contrast"."""

_WITH_AGENT: Final = (
    words(
        "post\\w*|p[oó]s|avec|apr[eè]s|dopo|nach|efter|etter|nakon|despu[eé]s|depois|после|пост\\w*|μετ[αά]",
        "enh\\w*|inj\\w*|tehoste\\w*|kl|po ?dan\\w*",
        "c|k|km|ce|kmi?v?|ivkm|iv|civ|gd\\w*|gad|gado\\w*|mdc|mit ?km|[ck]ontr\\w*|ctr|σκιαγ\\w*",
        f"{_AHEAD}t1w?(?:c|ce|gd|km|post|\\+c)",
        "(?:с ?)?контр\\w*|с ?ку|ку|усил\\w*",
        "dotarem|gadovist|gadavist|magnevist|prohance|multihance|omniscan|clariscan|elucirem|vueway|dotagraf",
        "c/ ?(?:c|k|gd|gado\\w*|[ck]ontr\\w*|mdc|iv)",
    ),
    re.compile(r"\+ ?(?:c|k|km|gd|ce|iv|mdc|ctr|gado\w*|[ck]ontr\w*)(?![^\W_])"),
    re.compile(r"(?<![^\W_])(?:c|k|km|gd|iv|ce)\+"),
    re.compile("增强|增強|増強|造影|强化|強化|조영"),
)
"""Says: after contrast agent, in the languages we have met and by the agents' trade names."""


def agent_words(text: str) -> tuple[bool, bool]:
    """Whether the text says before contrast agent, and whether it says after; each may be said, or both."""
    rest = _NEUTRAL.sub(" ", text)
    if _BOTH.search(rest):
        return True, True
    without = False
    for pattern in _WITHOUT_AGENT:
        rest, count = pattern.subn(" ", rest)
        without = without or count > 0
    return without, any(pattern.search(rest) for pattern in _WITH_AGENT)
