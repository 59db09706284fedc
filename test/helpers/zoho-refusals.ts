/** How Zoho says no to a single record: what stands in `data` of its answer. */
export const refusedRecord = (code: string, details: object = {}, message = 'as Zoho says it') => ({
  ...{ code, details, message, status: 'error' },
});

/** Where in the request's first record the fault is. */
export const at = (field: string) => ({ api_name: field, json_path: `$.data[0].${field}` });
