"""Which texts of a laboratory go to researchers: codes of systems that are known, usual terms, and what the site lists.

An allow-list: what is on none of these is not told, whatever it looks like. Who types a name into the field of a stain
tells it to nobody.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

_ADICAP = r"[A-Z0-9]{1,2}|[A-Z0-9]\d[A-Z0-9]\d|[A-Z]{4}[A-Z0-9]\d[A-Z0-9]\d"
_ICD_O = r"C\d\d(?:\.\d)?|[89]\d{3}/\d(?:[1-9])?"
_ICD_10 = r"[A-Z]\d\d(?:\.\d{1,2})?"
_SNOMED_NAMES = ("SNOMED", "SNOMED-CT", "SNOMEDCT", "SCT")
_SNOMED = r"[1-9]\d{5,17}|[TMPDFLASJGC]-[0-9A-F]{5}"

_SYSTEMS: Mapping[str, str] = {
    "ADICAP": _ADICAP,
    **dict.fromkeys(("ICD-O", "ICD-O-3", "ICDO", "ICDO3", "CIM-O", "CIM-O-3", "CIMO3"), _ICD_O),
    **dict.fromkeys(("ICD-10", "ICD10", "CIM-10", "CIM10"), _ICD_10),
    **dict.fromkeys(_SNOMED_NAMES, _SNOMED),
}
"""The form of the codes of each system, by the name that stands before the colon."""
_CODES = {system: re.compile(form) for system, form in _SYSTEMS.items()}
_BARE = re.compile(r"C\d\d\.\d|[89]\d{3}/\d")
"""Codes of ICD-O that mean nothing else without their system's name."""

_STAINS = """
ae1/ae3 afp alcianblue alk amacr androgenreceptor ar bap1 bcatenin bcl1 bcl2 bcl6 betacatenin bleualcian
bleualcianpas bleudetoluidine brafv600e brca1 c4d calcitonin calretinin cam5.2 cdk4 cdx2 cea chromogranin
chromogranina chromogranine cmyc congored cyclind1 d240 desmin desmine dog1 eber ebv ecadherin ecadherine elastin
ema er erg estrogenreceptor factorviii fontana fontanamasson gata3 gcdfp15 gfap giemsa glypican3 gms gram grocott
h&e h3k27m h3k27me3 he helicobacterpylori hematoxylin hematoxyline hematoxylineeosine hematoxylineeosinesafran
hematoxylineosin hepar1 her2 her2/neu hes hhv8 hmb45 hnf1b hps idh1 idh1r132h inhibin inhibina insm1 kappa ki67 kit
lambda luxolfastblue masson massontrichrome maygrunwaldgiemsa mdm2 melana mgg mib1 mlh1 mpo msh2 msh6 muc1 muc2
muc5ac muc6 mum1 myc myod1 myogenin napsina neun nkx3.1 nse ntrk oilredo olig2 orcein orceine p16 p21 p40 p504s p53
p57 p63 panck pankeratin pap papanicolaou pas pasd pasdiastase pax2 pax5 pax8 pdl1 perls pgp9.5 phh3 pms2 podoplanin
pr prame progesteronereceptor prussianblue psa psap pten re reticulin reticuline ro rougecongo rp s100 sall4 satb2
sma smad4 sox10 sox11 stat6 synaptophysin synaptophysine tdt thyroglobulin thyroglobuline tle1 toluidineblue
trichrome trichromedemasson ttf1 uroplakin vangieson verhoeff vimentin vimentine warthinstarry wt1 ziehl
ziehlneelsen
"""
_CLONES = re.compile(r"(?:cd\d{1,3}[a-c]?|ck\d{1,2}(?:/\d{1,2})?|ig[agmd]4?)")
_ORGANS = """
adrenal adrenalgland amygdale anus appendix artere artery bladder blood bone bonemarrow brain breast bronche
bronchus cerebellum cerveau cervelet cervix coeur col colon colonrectum colorectum conjunctiva duodenum ear
endometrium esophagus estomac eye fallopiantube foie gallbladder ganglion ganglionlymphatique glandesalivaire
glandesurrenale grele heart hypophyse ileum intestingrele jejunum joint kidney langue larynx levre lip liver lung
lymphnode meninge meninges moelle moelleosseuse mouth muscle nerf nerve nez nose oeil oesophage oesophagus
oralcavity oreille os ovaire ovary pancreas parathyroid parathyroide peau penis peritoine peritoneum pharynx
pituitary placenta pleura plevre poumon prostate rate rectum rein retina retine salivarygland sang sein skin
smallbowel smallintestine softtissue spinalcord spleen stomach surrenale testicule testis thymus thyroid thyroide
tissumou tongue tonsil trachea trachee tractusdigestif trompe ureter uretere urethra uretre uterus vagin vagina vein
veine vesicule vesiculebiliaire vessie vulva vulve
"""
_USUAL: Mapping[str, frozenset[str]] = {
    "stain": frozenset(_STAINS.split()),
    "organ": frozenset(_ORGANS.split()),
    "diagnoses": frozenset(),
}
_BETWEEN = re.compile(r"[ _-]")
_MOST_USUAL = 40
"""Characters of a usual term with all that may stand between its parts."""
COLUMNS = tuple(_USUAL)
"""Columns that are text of the laboratory."""


class Terms:
    """What may be told.

    Parameters
    ----------
    listed
        By column, values that the site has looked at and tells as they are.

    """

    def __init__(self, listed: Mapping[str, frozenset[str]]) -> None:
        self._listed = listed

    def may_be_told(self, column: str, text: str) -> bool:
        """Say whether a value of ``organ``, ``diagnoses`` or ``stain`` goes to researchers, to the letter."""
        if text in self._listed.get(column, frozenset()):
            return True
        return (column != "stain" and is_code(text)) or _is_usual(column, text)


def is_code(text: str) -> bool:
    """Say whether a text is nothing but a code of a system that is known here, such as ``ADICAP:BHGSA7A0``."""
    if not text.isascii():
        return False
    system, _, code = text.partition(":")
    if not code:
        return _BARE.fullmatch(text) is not None
    form = _CODES.get(system)
    if form is None or form.fullmatch(code) is None:
        return False
    # The last digit of SNOMED CT's numbers proves the others: patients' numbers, and days, fail it nine times in ten.
    return system not in _SNOMED_NAMES or not code.isdigit() or _verhoeff(code) == 0


def _verhoeff(digits: str) -> int:
    """Return the check of a number by Verhoeff: the digits in the dihedral group of ten, each turned by its place."""
    found = 0
    for place, digit in enumerate(map(int, reversed(digits))):
        for _ in range(place % 8):
            digit = _TURN[digit]
        found = _times(found, digit)
    return found


_TURN = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def _times(one: int, other: int) -> int:
    """Return the product of two elements of the dihedral group: 0 to 4 turn, 5 to 9 mirror, too."""
    if one < 5:
        return (one + other) % 5 + (5 if other >= 5 else 0)
    return (one - other) % 5 + (5 if other < 5 else 0)


def _is_usual(column: str, text: str) -> bool:
    if len(text) > _MOST_USUAL or not text.isprintable():
        return False
    folded = unicodedata.normalize("NFKD", text.replace("œ", "oe").replace("Œ", "Oe"))
    plain = _BETWEEN.sub("", "".join(sign for sign in folded if not unicodedata.combining(sign)).casefold())
    return plain in _USUAL[column] or (column == "stain" and _CLONES.fullmatch(plain) is not None)
