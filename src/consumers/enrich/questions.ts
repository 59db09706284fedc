/**
 * Which question of a form asks for what. Questions are worded freely and in any language, so each kind has words that
 * it must have and words that turn it into another question ("Company size"). What is not certain counts as nothing:
 * a wrong company in the CRM costs more than none, and the model reads the answers as well.
 */

export type Answer = { question?: string | undefined; answer?: string | undefined };

type Kind = { asks: RegExp; unless?: RegExp; isAnswer: (answer: string) => boolean };

const NOTHING = /^(n\/?a|none|null|nil|no|yes|nope|unknown|test|self|keine?|ja|nein|[-–—./\s]*)$/i;
const isShort = (answer: string) => answer.length <= 100 && answer.split(/\s+/).length <= 12;
const ADDRESS = /^[^\s@<>,;]+@[^\s@<>,;]+\.[^\s@<>,;]{2,}$/;

const ABOUT_SOMETHING_ELSE =
  /^\W*(are|is|do|have|has|can|will)\b|\b(individual|size|big|large|how (many|much|long|often)|number of|employees|industry|sector|roles?|titles?|positions?|challenges?|goals?|problems?|revenue|budget|e-?mail|phone|address|located|location|country|city|stage|types?|does|using|uses?|describe|about|tell us|why|when|plans?|interested)\b|web ?sites?|\burl\b|home ?page|branche|mitarbeiter|größe|taille|secteur|tamaño|sector|dimensione|settore/i;

const KINDS = {
  email: { asks: /e-?mail|courriel|correo|メール|邮箱|البريد/i, isAnswer: isAddress },
  company: {
    asks: /compan(y|ies)\b|organi[sz]ation|\bemployer|business name|name of (your|the) business|\bfirm\b|where do you work|who do you work for|\bfirm(a|enname)\b|unternehmen|arbeitgeber|société|entreprise|empresa|compañía|azienda|società|bedrijf|företag|virksomhed|компани|организаци|会社|公司|회사|شركة|الشركة/i,
    unless: ABOUT_SOMETHING_ELSE,
    isAnswer: isShort,
  },
  jobTitle: {
    asks: /job ?title|\b(your|current) (job|role|title|position)\b|^\W*(job |work )?(role|title|position|function)\W*$|what do you do\b|berufsbezeichnung|^\W*(ihre |deine )?(position|funktion|rolle)\W*$|votre (poste|fonction)|^\W*(poste|cargo|puesto|ruolo|functie)\W*$|役職|职位/i,
    unless: /hiring|hire|apply|applying|open|challenge|using|use\b|how|why|when/i,
    isAnswer: (answer: string) => isShort(answer) && !/^(mr|mrs|ms|mx|dr|herr|frau)\.?$/i.test(answer),
  },
  industry: {
    asks: /\bindustry\b|\bsector\b|\bbranche\b|secteur|industria|settore|业界|行业/i,
    unless: /how|why|years|experience|challenge/i,
    isAnswer: isShort,
  },
  website: {
    asks: /web ?site|\burl\b|home ?page|\bdomain\b|webseite|site web|sitio web|\bsito\b|サイト|网站/i,
    isAnswer: isWebsite,
  },
  phone: {
    asks: /\bphone|\bmobile\b|\bcell\b|telefon|\bhandy|\btel\b|whatsapp|téléphone|teléfono|celular|cellulare|telefoon|电话|電話|телефон|هاتف/i,
    isAnswer: isPhone,
  },
  firstName: { asks: /first ?name|given name|vorname|prénom/i, isAnswer: isShort },
  lastName: { asks: /last ?name|surname|family name|nachname|nom de famille|apellido|cognome/i, isAnswer: isShort },
  fullName: {
    asks: /^\W*(your |full |contact )*name\W*$|what('s| is) your (full )?name|^\W*(nombre|nom|nome)( completo| complet)?\W*$/i,
    isAnswer: isShort,
  },
} satisfies Record<string, Kind>;

export type AskedFor = keyof typeof KINDS;

/** The first usable answer to a question that asks for it. */
export function answerTo(kind: AskedFor, answers: readonly Answer[]): string | undefined {
  const { asks, isAnswer, ...rest } = KINDS[kind];
  const unless = 'unless' in rest ? rest.unless : undefined;
  return answers
    .filter(({ question = '' }) => asks.test(question) && !unless?.test(question))
    .map(({ answer = '' }) => answer.trim())
    .find((answer) => answer !== '' && !NOTHING.test(answer) && !answer.includes('\n') && isAnswer(answer));
}

export function isAddress(answer: string): boolean {
  return answer.length <= 254 && ADDRESS.test(answer);
}

export function isPhone(answer: string): boolean {
  const digits = answer.replace(/\D/g, '').length;
  return digits >= 7 && digits <= 17 && /^\+?[\d\s().\-/]+((x|ext\.?)\s*\d+)?$/i.test(answer);
}

function isWebsite(answer: string): boolean {
  return answer.length <= 200 && /^(https?:\/\/)?([\p{L}\p{N}-]+\.)+[\p{L}]{2,}([/?#]\S*)?$/iu.test(answer);
}
